//! A small decoder in plain Rust that behaves as a shard, for the gate's own tests: correct, or broken in one known way.
//!
//! Values are rounded to fp16 after every operation and every sum runs in f32 in one order per column, so that a correct shard is
//! exact in all three invariances. Exponentials are `libm`'s, so that figures are the same on every machine.

use std::any::Any;
use std::cell::Cell;

use anepipe_runtime::device::{Function, Port, Shard, Signature, State};
use anepipe_runtime::error::RuntimeError;
use anepipe_runtime::rope::{Rope, RopeSpec};
use anepipe_runtime::tensor::Tensor;
use half::f16;

use super::input::Noise;

pub(super) const D: usize = 64;
pub(super) const S: usize = 32;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 16;
const ROPE_DIM: usize = 12;
const FFN: usize = 96;
const VOCAB: usize = 50;

/// What is wrong with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// The attention output `[1, heads, T, head_dim]` is reshaped to `[1, d, T, 1]` without being permuted first.
    NoPermute,
    /// The attention mask is not added.
    MaskIgnored,
    /// The mask is added with a weight at which loud keys still get through.
    MaskWeak,
    /// Odd slots add up in fp16, the others in f32.
    SlotAccumulator,
    /// The masked write adds to a cache row where it must replace it.
    CacheNotCleared,
    /// Every slot is rotated as the first one.
    RopeOfFirstSlot,
    /// The norm divides by a sum over all slots.
    NormAcrossSlots,
    /// The last slot gives NaN.
    NanInLastSlot,
    /// Half of the weights of the down projection are those of another model.
    OtherWeights,
}

/// A decoder of one or more layers, or a head.
pub(super) struct Reference {
    function: Function,
    block: usize,
    layers: Vec<Layer>,
    head: Option<Matrix>,
    bug: Bug,
}

struct Layer {
    qkv: Matrix,
    output: Matrix,
    gate_up: Matrix,
    down: Matrix,
}

struct Matrix {
    columns: usize,
    values: Vec<f32>,
}

/// Columns of a tensor `[channels, T]`, one `Vec` per slot.
type Columns = Vec<Vec<f32>>;

/// The rotary embedding that goes with the shard.
pub(super) fn rope() -> Rope {
    Rope::new(&RopeSpec { rope_dim: ROPE_DIM, base: 10_000.0, factors: None, attn_factor: 1.2 }).unwrap()
}

fn port(name: &str, shape: &[usize]) -> Port {
    Port { name: name.to_owned(), shape: shape.to_vec() }
}

fn round(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

impl Matrix {
    fn random(name: &str, rows: usize, columns: usize, gain: f64) -> Self {
        let mut noise = Noise::new(name);
        let scale = gain / (columns as f64).sqrt();
        Self {
            columns,
            values: (0..rows * columns).map(|_| round((noise.normal() * scale) as f32)).collect(),
        }
    }

    fn times(&self, x: &[f32], accumulate: impl Fn(f32) -> f32) -> Vec<f32> {
        let rows = self.values.chunks_exact(self.columns);
        rows.map(|row| round(row.iter().zip(x).fold(0.0, |sum, (w, x)| accumulate(sum + w * x)))).collect()
    }
}

impl Reference {
    pub(super) fn layers(count: usize, block: usize, bug: Bug) -> Self {
        let other = if bug == Bug::OtherWeights { "other" } else { "" };
        let layer = |i: usize| Layer {
            qkv: Matrix::random(&format!("qkv{i}"), (HEADS + 2 * KV_HEADS) * HEAD_DIM, D, 1.0),
            output: Matrix::random(&format!("output{i}"), D, HEADS * HEAD_DIM, 0.5),
            gate_up: Matrix::random(&format!("gate_up{i}"), 2 * FFN, D, 1.0),
            down: Matrix::random(&format!("down{i}{other}"), D, FFN, 0.5),
        };
        let caches = (0..count).flat_map(|i| [format!("k_state_{i}"), format!("v_state_{i}")]);
        let signature = Signature {
            inputs: vec![
                port("hidden", &[1, D, block, 1]),
                port("rope_cos", &[block, ROPE_DIM / 2]),
                port("rope_sin", &[block, ROPE_DIM / 2]),
                port("attn_mask", &[1, 1, block, S]),
                port("kv_write_mask", &[1, 1, S, block]),
            ],
            outputs: vec![port("hidden_out", &[1, D, block, 1])],
            states: caches.map(|name| port(&name, &[1, KV_HEADS, S, HEAD_DIM])).collect(),
        };
        Self { function: main(signature), block, layers: (0..count).map(layer).collect(), head: None, bug }
    }

    pub(super) fn head(block: usize, bug: Bug) -> Self {
        let signature = Signature {
            inputs: vec![port("hidden", &[1, D, block, 1])],
            outputs: vec![port("logits", &[1, VOCAB, block, 1])],
            states: vec![],
        };
        let name = if bug == Bug::OtherWeights { "other" } else { "head" };
        Self {
            function: main(signature),
            block,
            layers: vec![],
            head: Some(Matrix::random(name, VOCAB, D, 1.0)),
            bug,
        }
    }

    fn project(&self, matrix: &Matrix, x: &Columns) -> Columns {
        let coarse = |t: usize| self.bug == Bug::SlotAccumulator && t % 2 == 1;
        let column =
            |(t, x): (usize, &Vec<f32>)| matrix.times(x, |sum| if coarse(t) { round(sum) } else { sum });
        x.iter().enumerate().map(column).collect()
    }

    fn norm(&self, x: &Columns) -> Columns {
        let squares = |column: &[f32]| column.iter().map(|x| x * x).sum::<f32>() / column.len() as f32;
        let shared = x.iter().map(|column| squares(column)).sum::<f32>() / x.len() as f32;
        let scale = |column: &[f32]| {
            let mean = if self.bug == Bug::NormAcrossSlots { shared } else { squares(column) };
            1.0 / (mean + 1e-5).sqrt()
        };
        x.iter().map(|column| column.iter().map(|value| round(value * scale(column))).collect()).collect()
    }

    fn layer(&self, layer: &Layer, x: &Columns, inputs: &[Tensor], k: &mut [f32], v: &mut [f32]) -> Columns {
        let qkv = self.project(&layer.qkv, &self.norm(x));
        let attended = self.attention(&qkv, inputs, k, v);
        let x = add(x, &self.project(&layer.output, &attended));
        let gated: Columns = self
            .project(&layer.gate_up, &self.norm(&x))
            .iter()
            .map(|column| {
                let (gate, up) = column.split_at(FFN);
                gate.iter().zip(up).map(|(g, u)| round(round(g / (1.0 + libm::expf(-g))) * u)).collect()
            })
            .collect();
        add(&x, &self.project(&layer.down, &gated))
    }

    fn attention(&self, qkv: &Columns, inputs: &[Tensor], k: &mut [f32], v: &mut [f32]) -> Columns {
        let input = |i: usize, at: usize| inputs[i].data()[at].to_f32();
        let rotated = |t: usize, head: usize| {
            let mut x = qkv[t][head * HEAD_DIM..][..HEAD_DIM].to_vec();
            let (half, row) = (ROPE_DIM / 2, if self.bug == Bug::RopeOfFirstSlot { 0 } else { t });
            for i in 0..half {
                let (cos, sin) = (input(1, row * half + i), input(2, row * half + i));
                let (lo, hi) = (x[i], x[i + half]);
                x[i] = round(round(lo * cos) - round(hi * sin));
                x[i + half] = round(round(lo * sin) + round(hi * cos));
            }
            x
        };
        for head in 0..KV_HEADS {
            let new_k: Columns = (0..self.block).map(|t| rotated(t, HEADS + head)).collect();
            let first_v = (HEADS + KV_HEADS + head) * HEAD_DIM;
            for s in 0..S {
                let write: Vec<f32> = (0..self.block).map(|t| input(4, s * self.block + t)).collect();
                let written: f32 = write.iter().sum();
                let keep = if self.bug == Bug::CacheNotCleared { 1.0 } else { 1.0 - written };
                for j in 0..HEAD_DIM {
                    let at = (head * S + s) * HEAD_DIM + j;
                    let put_k: f32 = write.iter().zip(&new_k).map(|(write, new)| write * new[j]).sum();
                    let put_v: f32 = write.iter().zip(qkv).map(|(write, new)| write * new[first_v + j]).sum();
                    k[at] = round(k[at] * keep + put_k);
                    v[at] = round(v[at] * keep + put_v);
                }
            }
        }
        let mut flat = Vec::new(); // [heads, T, head_dim]
        for head in 0..HEADS {
            let cached = |s: usize| (head / (HEADS / KV_HEADS) * S + s) * HEAD_DIM;
            for t in 0..self.block {
                let q = rotated(t, head);
                let score = |s: usize| {
                    let dot: f32 = q.iter().zip(&k[cached(s)..]).map(|(q, k)| q * k).sum();
                    let mask = match self.bug {
                        Bug::MaskIgnored => 0.0,
                        Bug::MaskWeak => input(3, t * S + s) / 5000.0,
                        _ => input(3, t * S + s),
                    };
                    round(round(round(dot) / (HEAD_DIM as f32).sqrt()) + mask)
                };
                let scores: Vec<f32> = (0..S).map(score).collect();
                let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = scores.iter().map(|score| libm::expf(score - top)).sum();
                let weights: Vec<f32> =
                    scores.iter().map(|score| round(libm::expf(score - top) / sum)).collect();
                flat.extend((0..HEAD_DIM).map(|j| {
                    round(weights.iter().enumerate().map(|(s, weight)| weight * v[cached(s) + j]).sum())
                }));
            }
        }
        let place = |channel: usize, t: usize| match self.bug {
            Bug::NoPermute => channel * self.block + t,
            _ => (channel / HEAD_DIM * self.block + t) * HEAD_DIM + channel % HEAD_DIM,
        };
        (0..self.block)
            .map(|t| (0..HEADS * HEAD_DIM).map(|channel| flat[place(channel, t)]).collect())
            .collect()
    }
}

fn add(a: &Columns, b: &Columns) -> Columns {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| round(a + b)).collect()).collect()
}

fn main(signature: Signature) -> Function {
    Function { name: "main".to_owned(), signature }
}

impl Shard for Reference {
    fn functions(&self) -> &[Function] {
        std::slice::from_ref(&self.function)
    }

    fn new_state(&self) -> Box<dyn State> {
        let names = self.function.signature.states.iter().map(|port| port.name.clone());
        Box::new(Caches(names.map(|name| (name, vec![0.0; KV_HEADS * S * HEAD_DIM])).collect()))
    }

    fn predict(
        &self,
        _: usize,
        inputs: &[Tensor],
        state: &mut dyn State,
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError> {
        PASSES.set(PASSES.get() + 1);
        let (state, block): (&mut dyn Any, usize) = (state, self.block);
        let Caches(caches) = state.downcast_mut().expect("a state of this shard");
        let hidden = inputs[0].data();
        let mut x: Columns = (0..block)
            .map(|t| hidden.iter().skip(t).step_by(block).map(|value| value.to_f32()).collect())
            .collect();
        for (layer, pair) in self.layers.iter().zip(caches.chunks_exact_mut(2)) {
            let [(_, k), (_, v)] = pair else { unreachable!("chunks of two") };
            x = self.layer(layer, &x, inputs, k, v);
        }
        if let Some(head) = &self.head {
            x = self.project(head, &x);
        }
        if self.bug == Bug::NanInLastSlot {
            x[block - 1][3] = f32::NAN;
        }
        for (i, into) in outputs[0].data_mut().iter_mut().enumerate() {
            *into = f16::from_f32(x[i % block][i / block]);
        }
        Ok(())
    }
}

thread_local! {
    static PASSES: Cell<usize> = const { Cell::new(0) };
}

/// Passes run by this thread since the last call.
pub(super) fn take_passes() -> usize {
    PASSES.take()
}

struct Caches(Vec<(String, Vec<f32>)>);

impl State for Caches {
    fn read(&self, name: &str) -> Result<Vec<f16>, RuntimeError> {
        let (_, values) = self.0.iter().find(|(cache, _)| cache == name).expect("a state of this shard");
        Ok(values.iter().map(|&value| f16::from_f32(value)).collect())
    }

    fn write(&mut self, name: &str, values: &[f16]) -> Result<(), RuntimeError> {
        let (_, into) = self.0.iter_mut().find(|(cache, _)| cache == name).expect("a state of this shard");
        for (into, value) in into.iter_mut().zip(values) {
            *into = value.to_f32();
        }
        Ok(())
    }
}
