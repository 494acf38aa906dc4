//! What makes speculative decoding exact: a position's result depends neither on the width of the pass, nor on its slot
//! or its neighbours, nor on what lies behind the mask. Bit for bit, state included.

mod fixture;

use std::path::Path;

use anepipe_runtime::device::{Device, Shard as Loaded, State};
use anepipe_runtime::portable::PortableDevice;
use fixture::layer::{Shard, Weights};
use fixture::random::Random;
use half::f16;

const CONTEXT: usize = 48;

fn shard(width: usize, weights: Weights) -> Shard {
    Shard {
        hidden: 64,
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        ffn: 96,
        rope: 12,
        context: CONTEXT,
        width,
        layers: 2,
        weights,
        scale_scores: false,
        bias: false,
    }
}

fn load(directory: &Path, width: usize, weights: Weights) -> Box<dyn Loaded> {
    let path = directory.join(format!("{weights:?}{width}.mlmodelc"));
    shard(width, weights).save(&path, 11);
    PortableDevice::new().load(&path).unwrap()
}

/// What a token at a position brings along, the same wherever it is computed.
fn element(token: u64, position: usize, name: &str, index: usize) -> f16 {
    let salt = name.len() as u64 * 7 + name.as_bytes()[name.len() - 1] as u64;
    let place = if name == "hidden" { 0 } else { position as u64 };
    let mut random = Random(token.wrapping_mul(salt) ^ place << 32 ^ index as u64);
    f16::from_f32(random.normal())
}

/// Runs one pass in which slot i holds `slots[i]`: a token and its position. Returns the columns of the hidden state.
fn pass(loaded: &dyn Loaded, state: &mut dyn State, slots: &[(u64, usize)]) -> Vec<Vec<f16>> {
    let signature = &loaded.functions()[0].signature;
    let (mut inputs, mut outputs) = (signature.new_inputs(), signature.new_outputs());
    for (tensor, port) in inputs.iter_mut().zip(&signature.inputs) {
        let data = tensor.data_mut();
        for (slot, &(token, position)) in slots.iter().enumerate() {
            match port.name.as_str() {
                "attn_mask" => {
                    data[slot * CONTEXT + position + 1..(slot + 1) * CONTEXT].fill(f16::from_f32(-40000.0));
                }
                "kv_write_mask" => data[position * slots.len() + slot] = f16::ONE,
                "hidden" => {
                    let column = data.iter_mut().skip(slot).step_by(slots.len());
                    column
                        .enumerate()
                        .for_each(|(index, value)| *value = element(token, position, "hidden", index));
                }
                table => {
                    let width = data.len() / slots.len();
                    let row = data[slot * width..(slot + 1) * width].iter_mut().enumerate();
                    row.for_each(|(index, value)| *value = element(0, position, table, index));
                }
            }
        }
    }
    loaded.predict(0, &inputs, state, &mut outputs).unwrap();
    let columns = |slot: usize| outputs[0].data().iter().skip(slot).step_by(slots.len()).copied().collect();
    (0..slots.len()).map(columns).collect()
}

fn states(loaded: &dyn Loaded, state: &dyn State) -> Vec<Vec<f16>> {
    loaded.functions()[0].signature.states.iter().map(|port| state.read(&port.name).unwrap()).collect()
}

const TOKENS: [u64; 12] = [5, 9, 2, 2, 7, 31, 8, 1, 4, 4, 6, 3];

#[test]
fn a_block_gives_what_one_token_at_a_time_gives() {
    for weights in [Weights::PerRow, Weights::PerTensor, Weights::Half] {
        let directory = tempfile::tempdir().unwrap();
        let narrow = load(directory.path(), 1, weights);
        let mut single = narrow.new_state();
        let expected: Vec<Vec<f16>> = TOKENS
            .iter()
            .enumerate()
            .flat_map(|(position, &token)| pass(narrow.as_ref(), single.as_mut(), &[(token, position)]))
            .collect();
        for width in [2, 3, 4, 6] {
            let wide = load(directory.path(), width, weights);
            let mut block = wide.new_state();
            let found: Vec<Vec<f16>> = TOKENS
                .chunks(width)
                .enumerate()
                .flat_map(|(number, tokens)| {
                    let slots: Vec<(u64, usize)> = tokens
                        .iter()
                        .enumerate()
                        .map(|(slot, &token)| (token, number * width + slot))
                        .collect();
                    pass(wide.as_ref(), block.as_mut(), &slots)
                })
                .collect();
            assert_eq!(expected, found, "{weights:?} T={width}");
            assert_eq!(states(narrow.as_ref(), single.as_ref()), states(wide.as_ref(), block.as_ref()));
        }
    }
}

#[test]
fn rejected_drafts_leave_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let loaded = load(directory.path(), 4, Weights::PerRow);
    let plain = |drafts: [u64; 3]| {
        let mut state = loaded.new_state();
        let mut columns = Vec::new();
        // Only the first slot of each pass is accepted; the rest is overwritten by the next.
        for (position, &token) in TOKENS.iter().enumerate() {
            let slots = [
                (token, position),
                (drafts[0], position + 1),
                (drafts[1], position + 2),
                (drafts[2], position + 3),
            ];
            columns.push(pass(loaded.as_ref(), state.as_mut(), &slots).swap_remove(0));
        }
        columns
    };
    assert_eq!(plain([100, 101, 102]), plain([7, 7, 99]));
}

#[test]
fn nothing_behind_the_mask_matters() {
    let directory = tempfile::tempdir().unwrap();
    let loaded = load(directory.path(), 4, Weights::PerRow);
    let slots: Vec<(u64, usize)> =
        TOKENS[..4].iter().enumerate().map(|(slot, &token)| (token, slot)).collect();
    let mut clean = loaded.new_state();
    let expected = pass(loaded.as_ref(), clean.as_mut(), &slots);
    // Finite and moderate, as rejected drafts are. Keys of 65504 can lift a score above any mask, and then the program
    // itself sees them.
    for poison in [-50.0, 1.0, 900.0] {
        let mut stale = loaded.new_state();
        for port in &loaded.functions()[0].signature.states {
            let values = vec![f16::from_f32(poison); port.shape.iter().product()];
            stale.write(&port.name, &values).unwrap();
        }
        assert_eq!(expected, pass(loaded.as_ref(), stale.as_mut(), &slots), "{poison}");
    }
}
