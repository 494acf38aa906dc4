//! The plan against the interpreter on decoder layers: outputs and states, bit for bit, whatever is fed to them.

mod fixture;

use std::num::NonZeroUsize;

use anepipe_runtime::device::{Device, State};
use anepipe_runtime::portable::{Executor, Isa, PortableDevice};
use anepipe_runtime::tensor::Tensor;
use fixture::layer::{Shard, Weights};
use fixture::random::Random;
use half::f16;
use proptest::prelude::*;

/// What fills a tensor.
#[derive(Debug, Clone, Copy)]
enum Fill {
    Ordinary,
    Tiny,
    Nasty,
    Bits,
}

/// What a mask looks like.
#[derive(Debug, Clone, Copy)]
enum Mask {
    /// As sessions make it: each slot sees what is committed and the slots before it.
    Causal,
    /// The same with another value where it hides.
    CausalWith(u16),
    /// Every position by itself.
    Scattered,
    /// One slot sees nothing.
    Blind,
    Bits,
}

/// Where new rows go.
#[derive(Debug, Clone, Copy)]
enum Write {
    Consecutive,
    Nowhere,
    /// Two slots to one row, one slot to two rows.
    Colliding,
    /// Fractions.
    Blended,
    Bits,
}

/// What is done to the state before a pass.
#[derive(Debug, Clone, Copy)]
enum Poison {
    None,
    /// The largest numbers and −0, everywhere behind the mask.
    Finite,
    Rows,
    Bits,
}

#[derive(Debug, Clone)]
struct Pass {
    fill: Fill,
    mask: Mask,
    write: Write,
    poison: Poison,
    seed: u64,
}

fn shard() -> impl Strategy<Value = Shard> {
    let weights = prop_oneof![
        Just(Weights::PerRow),
        Just(Weights::PerTensor),
        Just(Weights::Affine),
        Just(Weights::Half)
    ];
    let heads = (1usize..4, 1usize..4);
    (heads, 1usize..10, 1usize..9, 1usize..70, 1usize..3, weights, any::<[bool; 2]>()).prop_map(
        |((kv_heads, share), half_dim, width, context, layers, weights, [scale_scores, bias])| Shard {
            hidden: 24,
            heads: kv_heads * share,
            kv_heads,
            head_dim: 2 * half_dim,
            ffn: 40,
            rope: 2 * half_dim.div_ceil(2),
            context,
            width,
            layers,
            weights,
            scale_scores,
            bias,
        },
    )
}

fn pass() -> impl Strategy<Value = Pass> {
    let fill = prop_oneof![6 => Just(Fill::Ordinary), 1 => Just(Fill::Tiny), 1 => Just(Fill::Nasty), 1 => Just(Fill::Bits)];
    let mask = prop_oneof![
        5 => Just(Mask::Causal),
        // −inf, −65504, −10000, −300, −30, +inf, NaN.
        3 => prop::sample::select(vec![0xfc00u16, 0xfbff, 0xf0e2, 0xdcb0, 0xcf80, 0x7c00, 0x7e00]).prop_map(Mask::CausalWith),
        1 => Just(Mask::Scattered),
        1 => Just(Mask::Blind),
        1 => Just(Mask::Bits),
    ];
    let write = prop_oneof![
        6 => Just(Write::Consecutive), 1 => Just(Write::Nowhere), 1 => Just(Write::Colliding), 1 => Just(Write::Blended),
        1 => Just(Write::Bits),
    ];
    let poison = prop_oneof![5 => Just(Poison::None), 1 => Just(Poison::Finite), 1 => Just(Poison::Rows), 1 => Just(Poison::Bits)];
    (fill, mask, write, poison, any::<u64>()).prop_map(|(fill, mask, write, poison, seed)| Pass {
        fill,
        mask,
        write,
        poison,
        seed,
    })
}

const HIDDEN: f32 = -40000.0;

impl Pass {
    /// Inputs for a pass whose first slot stands at `position`.
    fn inputs(
        &self,
        shard: &Shard,
        position: usize,
        mut inputs: Vec<Tensor>,
        names: &[String],
    ) -> Vec<Tensor> {
        let mut random = Random(self.seed);
        for (tensor, name) in inputs.iter_mut().zip(names) {
            let (shape, data) = (tensor.shape().to_vec(), tensor.data_mut());
            match name.as_str() {
                "attn_mask" => self.mask(position, shape[3], data, &mut random),
                "kv_write_mask" => self.write(position, shape[3], data, &mut random),
                _ => data.iter_mut().for_each(|value| *value = self.element(&mut random)),
            }
        }
        assert_eq!(inputs.len(), 5, "{shard:?}");
        inputs
    }

    fn element(&self, random: &mut Random) -> f16 {
        match self.fill {
            Fill::Ordinary => f16::from_f32(random.normal()),
            Fill::Tiny => f16::from_f32(random.normal() * 1e-6),
            Fill::Nasty if random.below(8) == 0 => random.nasty(),
            Fill::Nasty => f16::from_f32(random.normal() * 50.0),
            Fill::Bits => random.any_half(),
        }
    }

    fn mask(&self, position: usize, context: usize, data: &mut [f16], random: &mut Random) {
        let hidden = match self.mask {
            Mask::CausalWith(bits) => f16::from_bits(bits),
            _ => f16::from_f32(HIDDEN),
        };
        let slots = data.len() / context;
        let blind = random.below(slots);
        for (slot, row) in data.chunks_mut(context).enumerate() {
            for (at, value) in row.iter_mut().enumerate() {
                let seen = match self.mask {
                    Mask::Causal | Mask::CausalWith(_) => at <= position + slot,
                    Mask::Scattered => random.below(3) == 0,
                    Mask::Blind => slot != blind && at <= position + slot,
                    Mask::Bits => true,
                };
                *value = match self.mask {
                    Mask::Bits => random.any_half(),
                    _ if seen => f16::ZERO,
                    _ => hidden,
                };
            }
        }
    }

    fn write(&self, position: usize, slots: usize, data: &mut [f16], random: &mut Random) {
        let context = data.len() / slots;
        match self.write {
            Write::Nowhere => {}
            Write::Consecutive | Write::Colliding => {
                for slot in 0..slots {
                    data[(position + slot) % context * slots + slot] = f16::ONE;
                }
                if matches!(self.write, Write::Colliding) {
                    for _ in 0..3 {
                        data[random.below(context * slots)] = f16::ONE;
                    }
                }
            }
            Write::Blended => data.iter_mut().for_each(|value| {
                *value = if random.below(4) == 0 { f16::from_f32(random.unit()) } else { f16::NEG_ZERO };
            }),
            Write::Bits => data.iter_mut().for_each(|value| *value = random.any_half()),
        }
    }

    fn poison(&self, state: &mut dyn State, names: &[String], row_length: usize) {
        let mut random = Random(!self.seed);
        for name in names {
            let mut values = state.read(name).unwrap();
            match self.poison {
                Poison::None => return,
                Poison::Finite => values.iter_mut().for_each(|value| {
                    if random.below(2) == 0 {
                        *value = f16::from_bits([0x8000, 0x7bff, 0xfbff, 0x0001][random.below(4)]);
                    }
                }),
                Poison::Rows => values.chunks_mut(row_length).for_each(|row| {
                    if random.below(6) == 0 {
                        row.fill_with(|| random.nasty());
                    }
                }),
                Poison::Bits => values.iter_mut().for_each(|value| *value = random.any_half()),
            }
            state.write(name, &values).unwrap();
        }
    }
}

fn bits(values: &[f16]) -> Vec<u16> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn check(shard: &Shard, passes: &[Pass]) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layer.mlmodelc");
    shard.save(&path, 7);
    let judge = PortableDevice::new().with_executor(Executor::Interpreter).load(&path).unwrap();
    let plans: Vec<_> = Isa::available()
        .into_iter()
        .zip([1, 2, 2])
        .map(|(isa, threads)| {
            let device =
                PortableDevice::new().with_isa(isa).with_threads(NonZeroUsize::new(threads).unwrap());
            device.unwrap().load(&path).unwrap()
        })
        .collect();
    let signature = judge.functions()[0].signature.clone();
    let inputs: Vec<String> = signature.inputs.iter().map(|port| port.name.clone()).collect();
    let states: Vec<String> = signature.states.iter().map(|port| port.name.clone()).collect();
    let mut judged = judge.new_state();
    let mut planned: Vec<_> = plans.iter().map(|plan| plan.new_state()).collect();
    let mut position = 0;
    for (number, pass) in passes.iter().enumerate() {
        let tensors = pass.inputs(shard, position, signature.new_inputs(), &inputs);
        pass.poison(judged.as_mut(), &states, shard.head_dim);
        let mut expected = signature.new_outputs();
        judge.predict(0, &tensors, judged.as_mut(), &mut expected).unwrap();
        for (plan, state) in plans.iter().zip(&mut planned) {
            pass.poison(state.as_mut(), &states, shard.head_dim);
            let mut found = signature.new_outputs();
            plan.predict(0, &tensors, state.as_mut(), &mut found).unwrap();
            for (expected, found) in expected.iter().zip(&found) {
                prop_assert_eq!(bits(expected.data()), bits(found.data()), "output of pass {}", number);
            }
            for name in &states {
                let (expected, found) = (judged.read(name).unwrap(), state.read(name).unwrap());
                prop_assert_eq!(bits(&expected), bits(&found), "{} after pass {}", name, number);
            }
        }
        position = (position + 1 + pass.seed as usize % shard.width) % shard.context;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_plan_gives_the_interpreters_bits(shard in shard(), passes in prop::collection::vec(pass(), 1..6)) {
        check(&shard, &passes)?;
    }
}
