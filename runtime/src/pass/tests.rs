//! What a pass puts into a shard's inputs, and what it refuses.

use half::f16;
use proptest::prelude::*;

use super::{BlockPass, PassError, PassLayout};
use crate::device::{Port, Signature, State};
use crate::error::RuntimeError;
use crate::rope::{Rope, RopeSpec};
use crate::tensor::Tensor;

const D: usize = 3;
const S: usize = 8;

fn port(name: &str, shape: &[usize]) -> Port {
    Port { name: name.to_owned(), shape: shape.to_vec() }
}

fn layers(block: usize) -> Signature {
    Signature {
        inputs: vec![
            port("hidden", &[1, D, block, 1]),
            port("rope_cos", &[block, 2]),
            port("rope_sin", &[block, 2]),
            port("attn_mask", &[1, 1, block, S]),
            port("kv_write_mask", &[1, 1, S, block]),
        ],
        outputs: vec![port("out", &[1, D, block, 1])],
        states: vec![port("k", &[1, 2, S, 2]), port("v", &[1, 2, S, 2])],
    }
}

fn head() -> Signature {
    Signature {
        inputs: vec![port("hidden", &[1, D, 4, 1])],
        outputs: vec![port("logits", &[1, 5, 4, 1])],
        states: vec![],
    }
}

fn rope(rope_dim: usize) -> Rope {
    Rope::new(&RopeSpec { rope_dim, base: 100.0, factors: None, attn_factor: 1.0 }).unwrap()
}

/// Token `n`: a row nobody else has.
fn token(n: usize) -> Vec<f16> {
    (0..D).map(|c| f16::from_f32((10 * n + c) as f32)).collect()
}

fn prepare(pass: &mut BlockPass, start: usize, tokens: std::ops::Range<usize>) -> Result<(), PassError> {
    let rows: Vec<_> = tokens.map(token).collect();
    pass.prepare(start, &rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn input<'a>(pass: &'a BlockPass, name: &str) -> &'a Tensor {
    &pass.inputs()[layers(4).input(name).unwrap()]
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.data().iter().map(|value| value.to_f32()).collect()
}

#[test]
fn two_tokens_in_four_slots() {
    let mut pass = BlockPass::new(&layers(4), Some(&rope(4))).unwrap();
    prepare(&mut pass, 3, 1..3).unwrap();

    // Column by column: token 1, token 2, and token 2 again in both unused slots.
    assert_eq!(floats(input(&pass, "hidden")), [10., 20., 20., 20., 11., 21., 21., 21., 12., 22., 22., 22.]);

    let rows = |position| rope(4).row(position).collect::<Vec<_>>();
    let (cos, sin) = (input(&pass, "rope_cos").data(), input(&pass, "rope_sin").data());
    for (slot, position) in [3, 4, 4, 4].into_iter().enumerate() {
        for (i, (c, s)) in rows(position).into_iter().enumerate() {
            assert_eq!((cos[2 * slot + i], sin[2 * slot + i]), (c, s), "slot {slot}");
        }
    }

    let no = -40000.;
    #[rustfmt::skip]
    assert_eq!(floats(input(&pass, "attn_mask")), [
        0., 0., 0., 0., no, no, no, no,
        0., 0., 0., 0., 0., no, no, no,
        0., 0., 0., 0., 0., no, no, no,
        0., 0., 0., 0., 0., no, no, no,
    ]);
    #[rustfmt::skip]
    assert_eq!(floats(input(&pass, "kv_write_mask")), [
        0., 0., 0., 0.,
        0., 0., 0., 0.,
        0., 0., 0., 0.,
        1., 0., 0., 0.,
        0., 1., 0., 0.,
        0., 0., 0., 0.,
        0., 0., 0., 0.,
        0., 0., 0., 0.,
    ]);
}

#[test]
fn both_layouts_of_the_hidden_state_are_the_same_bytes() {
    let mut channels_first = layers(4);
    channels_first.inputs[0].shape = vec![1, D, 1, 4];
    channels_first.outputs[0].shape = vec![1, D, 1, 4];
    let mut a = BlockPass::new(&layers(4), Some(&rope(4))).unwrap();
    let mut b = BlockPass::new(&channels_first, Some(&rope(4))).unwrap();
    prepare(&mut a, 0, 0..3).unwrap();
    prepare(&mut b, 0, 0..3).unwrap();
    assert_eq!(a.inputs()[0].data(), b.inputs()[0].data());
}

proptest! {
    /// Masks are updated by difference; a pass must not remember the passes before it, forwards or backwards.
    #[test]
    fn a_pass_depends_on_its_own_tokens_only(
        block in 1usize..6,
        passes in prop::collection::vec((0usize..S, 1usize..6), 1..12),
    ) {
        let mut used = BlockPass::new(&layers(block), Some(&rope(4))).unwrap();
        for (start, count) in passes {
            let mut fresh = BlockPass::new(&layers(block), Some(&rope(4))).unwrap();
            let fits = count <= block && start + count <= S;
            prop_assert_eq!(prepare(&mut fresh, start, 0..count).is_ok(), fits);
            let before = used.inputs().to_vec();
            prop_assert_eq!(prepare(&mut used, start, 0..count).is_ok(), fits);
            let expected = if fits { fresh.inputs() } else { &before };
            prop_assert_eq!(used.inputs(), expected);
        }
    }

    #[test]
    fn slots_see_their_own_past_and_write_their_own_row(
        start in 0usize..S, count in 1usize..5,
    ) {
        prop_assume!(start + count <= S);
        let mut pass = BlockPass::new(&layers(4), Some(&rope(4))).unwrap();
        prepare(&mut pass, start, 0..count).unwrap();
        let (mask, write) = (input(&pass, "attn_mask").data(), input(&pass, "kv_write_mask").data());
        for slot in 0..4 {
            for position in 0..S {
                let seen = mask[slot * S + position] == f16::ZERO;
                prop_assert_eq!(seen, position <= start + slot.min(count - 1));
                let written = write[position * 4 + slot] == f16::ONE;
                prop_assert_eq!(written, slot < count && position == start + slot);
            }
        }
    }
}

#[test]
fn the_last_position_is_usable_and_the_one_after_is_not() {
    let mut pass = BlockPass::new(&layers(4), Some(&rope(4))).unwrap();
    prepare(&mut pass, S - 1, 0..1).unwrap();
    let full = |start, tokens| Err(PassError::ContextFull { start, tokens, context: S });
    assert_eq!(prepare(&mut pass, S - 1, 0..2), full(S - 1, 2));
    assert_eq!(prepare(&mut pass, S, 0..1), full(S, 1));
    assert_eq!(prepare(&mut pass, usize::MAX, 0..1), full(usize::MAX, 1));
}

#[test]
fn a_pass_without_tokens_with_too_many_or_with_another_models_rows_is_refused() {
    let mut pass = BlockPass::new(&layers(4), Some(&rope(4))).unwrap();
    assert_eq!(prepare(&mut pass, 0, 0..0), Err(PassError::Tokens { given: 0, block: 4 }));
    assert_eq!(prepare(&mut pass, 0, 0..5), Err(PassError::Tokens { given: 5, block: 4 }));
    let rows: [&[f16]; 2] = [&token(0), &[f16::ONE; 4]];
    assert_eq!(pass.prepare(0, &rows), Err(PassError::RowWidth { row: 1, found: 4, expected: D }));
}

#[test]
fn buffers_stay_where_they_are() {
    let mut pass = BlockPass::new(&layers(4), Some(&rope(4))).unwrap();
    let addresses =
        |pass: &BlockPass| pass.inputs().iter().map(|input| input.data().as_ptr()).collect::<Vec<_>>();
    let before = addresses(&pass);
    for start in 0..4 {
        prepare(&mut pass, start, 0..4).unwrap();
    }
    assert_eq!(addresses(&pass), before);
}

#[test]
fn one_shards_output_becomes_the_next_ones_input() {
    let mut pass = BlockPass::new(&layers(4), Some(&rope(4))).unwrap();
    prepare(&mut pass, 2, 0..4).unwrap();
    let masks = pass.inputs()[1..].to_vec();
    let mut output = Tensor::zeros(&[1, D, 4, 1]);
    output.data_mut().fill(f16::ONE);
    pass.feed(&mut output).unwrap();
    assert!(pass.inputs()[0].data().iter().all(|&value| value == f16::ONE));
    assert_eq!(output.data()[0], token(0)[0], "exchanged, not copied");
    assert_eq!(pass.inputs()[1..], masks);
    let error = pass.feed(&mut Tensor::zeros(&[1, D, 2, 1])).unwrap_err();
    assert_eq!(error, PassError::Feed { expected: vec![1, D, 4, 1], found: vec![1, D, 2, 1] });
}

#[test]
fn a_head_takes_hidden_states_and_no_positions() {
    let mut pass = BlockPass::new(&head(), None).unwrap();
    assert_eq!(pass.layout().context(), None);
    prepare(&mut pass, usize::MAX, 0..2).unwrap();
    assert_eq!(floats(&pass.inputs()[0])[..4], [0., 10., 10., 10.]);

    let mut logits = Tensor::zeros(&[1, 5, 4, 1]);
    for (i, value) in logits.data_mut().iter_mut().enumerate() {
        *value = f16::from_f32(i as f32);
    }
    let row: Vec<f32> = pass.layout().row(&logits, 2).unwrap().map(f16::to_f32).collect();
    assert_eq!(row, [2., 6., 10., 14., 18.]);
    let error = pass.layout().row(&logits, 4).err().unwrap();
    assert_eq!(error, PassError::Slot { slot: 4, block: 4, elements: 20 });
}

#[test]
fn the_rotary_width_of_model_and_shard_must_agree() {
    let refused = |rope| BlockPass::new(&layers(4), rope).unwrap_err();
    assert_eq!(refused(None), PassError::RopeMissing);
    assert_eq!(refused(Some(&rope(6))), PassError::RopeWidth { model: 6, shard: 4 });
}

#[test]
fn an_interface_that_does_not_fit_is_refused_by_name() {
    let with = |change: &dyn Fn(&mut Signature)| {
        let mut signature = layers(4);
        change(&mut signature);
        PassLayout::from_signature(&signature).unwrap_err().to_string()
    };
    let reshaped =
        |input: usize, shape: &[usize]| with(&|signature| signature.inputs[input].shape = shape.to_vec());
    let table = [
        (with(&|signature| drop(signature.inputs.remove(3))), "attn_mask is missing"),
        (with(&|signature| signature.inputs.push(port("keep", &[1]))), "nothing here fills the input keep"),
        (reshaped(0, &[1, D, 4, 2]), "hidden is [1, 3, 4, 2]"),
        (reshaped(0, &[D, 4]), "hidden is [3, 4]"),
        (reshaped(0, &[1, 0, 4, 1]), "hidden is [1, 0, 4, 1]"),
        (reshaped(1, &[1, 2]), "rope_cos is [1, 2], expected [4, rope_dim / 2]"),
        (reshaped(2, &[4, 3]), "rope_sin is [4, 3], expected [4, 2]"),
        (reshaped(3, &[1, 1, 3, S]), "attn_mask is [1, 1, 3, 8], expected [1, 1, 4, context]"),
        (reshaped(4, &[1, 1, 4, S]), "kv_write_mask is [1, 1, 4, 8], expected [1, 1, 8, 4]"),
        (with(&|signature| signature.outputs.clear()), "0 outputs"),
        (with(&|signature| signature.outputs[0].shape[1] = 9), "out is [1, 9, 4, 1]"),
        (
            with(&|signature| signature.states[1].shape[2] = 9),
            "v is [1, 2, 9, 2], expected [1, heads, 8, head_dim]",
        ),
    ];
    for (message, text) in table {
        assert!(message.contains(text), "{message:?} lacks {text:?}");
    }
}

struct Caches(Vec<(String, Vec<f16>)>);

impl State for Caches {
    fn read(&self, name: &str) -> Result<Vec<f16>, RuntimeError> {
        let found = self.0.iter().find(|(cache, _)| cache == name);
        found.map(|(_, values)| values.clone()).ok_or_else(|| RuntimeError::Mismatch(name.to_owned()))
    }

    fn write(&mut self, name: &str, values: &[f16]) -> Result<(), RuntimeError> {
        let found = self.0.iter_mut().find(|(cache, _)| cache == name);
        let (_, into) = found.ok_or_else(|| RuntimeError::Mismatch(name.to_owned()))?;
        into.copy_from_slice(values);
        Ok(())
    }
}

#[test]
fn cached_rows_are_rewritten_by_position_in_every_head_and_state() {
    let layout = PassLayout::from_signature(&layers(4)).unwrap();
    let mut state = Caches(["k", "v"].map(|name| (name.to_owned(), vec![f16::ZERO; 2 * S * 2])).into());
    assert_eq!(layout.cache_peak(&state).unwrap().to_bits(), 0);
    layout
        .rewrite_cache(&mut state, 6..usize::MAX, |rows| rows.iter_mut().for_each(|old| *old -= f16::ONE))
        .unwrap();
    for (_, values) in &state.0 {
        for (i, value) in values.iter().enumerate() {
            let position = i / 2 % S;
            assert_eq!(*value == f16::NEG_ONE, position >= 6, "element {i}");
        }
    }
    state.0[0].1[0] = f16::INFINITY;
    assert_eq!(layout.cache_peak(&state).unwrap().to_bits(), 1_f32.to_bits());
}
