//! Elementwise operators over fp16 slices: widened, applied and rounded a block at a time.

use half::f16;

use super::Isa;
use super::convert::{narrow, widen};
use super::isa::for_each_isa;
use crate::portable::arith::operator::{Binary, Unary};
use crate::portable::graph::shape;

/// Elements that are widened together: few enough for the first-level cache.
const BLOCK: usize = 256;

/// How the elements of an operand repeat over those of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Result i reads element i.
    Same,
    /// Result i reads element i mod the operand's length.
    Cycle,
    /// Result i reads element i / n; n divides [`BLOCK`].
    Repeat(usize),
    /// Anything else.
    Strided {
        /// Extents of the result.
        extents: Vec<usize>,
        /// The operand's stride along each.
        strides: Vec<usize>,
    },
}

impl Reading {
    /// How a tensor of shape `from` is read for a result of shape `to`, which it broadcasts to.
    pub fn of(from: &[usize], to: &[usize]) -> Self {
        let (length, total): (usize, usize) = (from.iter().product(), to.iter().product());
        if length == total {
            return Self::Same;
        }
        let strides = shape::broadcast_strides(from, to);
        // Per extent that is not 1, whether the operand repeats along it.
        let repeats: Vec<bool> = to
            .iter()
            .zip(&strides)
            .filter(|(extent, _)| **extent != 1)
            .map(|(_, stride)| *stride == 0)
            .collect();
        if repeats.is_sorted_by_key(|repeats| !repeats) {
            return Self::Cycle;
        }
        let times = total / length.max(1);
        if repeats.is_sorted() && BLOCK.is_multiple_of(times) {
            return Self::Repeat(times);
        }
        Self::Strided { extents: to.to_vec(), strides }
    }

    /// Widens what the results from `start` on read; `start` is a multiple of [`BLOCK`], and `block` holds what the
    /// block before read.
    fn read(&self, isa: Isa, x: &[f16], start: usize, block: &mut [f32]) {
        match self {
            Self::Same => widen(isa, &x[start..start + block.len()], block),
            // The cycle looks the same in every block.
            Self::Cycle if BLOCK.is_multiple_of(x.len()) && start > 0 => {}
            Self::Cycle => {
                let mut at = start % x.len();
                let mut rest = block;
                while !rest.is_empty() {
                    let (part, more) = rest.split_at_mut(rest.len().min(x.len() - at));
                    widen(isa, &x[at..at + part.len()], part);
                    (at, rest) = (0, more);
                }
            }
            Self::Repeat(times) => {
                let mut values = [0f32; BLOCK];
                let values = &mut values[..block.len().div_ceil(*times)];
                widen(isa, &x[start / times..][..values.len()], values);
                match times {
                    2 => repeat::<2>(values, block),
                    4 => repeat::<4>(values, block),
                    8 => repeat::<8>(values, block),
                    _ => block.chunks_mut(*times).zip(values).for_each(|(part, value)| part.fill(*value)),
                }
            }
            Self::Strided { extents, strides } => {
                for (index, out) in block.iter_mut().enumerate() {
                    *out = x[place(start + index, extents, strides)].to_f32();
                }
            }
        }
    }
}

/// Writes each value `N` times.
fn repeat<const N: usize>(values: &[f32], block: &mut [f32]) {
    block.as_chunks_mut::<N>().0.iter_mut().zip(values).for_each(|(part, value)| *part = [*value; N]);
}

fn place(mut index: usize, extents: &[usize], strides: &[usize]) -> usize {
    let mut at = 0;
    for (&extent, &stride) in extents.iter().zip(strides).rev() {
        at += index % extent * stride;
        index /= extent;
    }
    at
}

/// Whether an operator takes so long that a few thousand elements are worth sharing among threads.
pub fn is_long(operator: Unary) -> bool {
    matches!(
        operator,
        Unary::Exp | Unary::Tanh | Unary::Sigmoid | Unary::Silu | Unary::GeluTanh | Unary::GeluSigmoid
    )
}

/// `out = operator(x, y)`.
pub fn binary(isa: Isa, operator: Binary, x: (&[f16], &Reading), y: (&[f16], &Reading), out: &mut [f16]) {
    let (mut a, mut b, mut result) = ([0f32; BLOCK], [0f32; BLOCK], [0f32; BLOCK]);
    for (index, out) in out.chunks_mut(BLOCK).enumerate() {
        let (start, length) = (index * BLOCK, out.len());
        x.1.read(isa, x.0, start, &mut a[..length]);
        y.1.read(isa, y.0, start, &mut b[..length]);
        apply_binary(isa, operator, &a[..length], &b[..length], &mut result[..length]);
        narrow(isa, &result[..length], out);
    }
}

/// `out = operator(x)`.
pub fn unary(isa: Isa, operator: Unary, x: &[f16], out: &mut [f16]) {
    let mut a = [0f32; BLOCK];
    for (x, out) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
        let values = &mut a[..x.len()];
        widen(isa, x, values);
        apply_unary(isa, operator, values);
        narrow(isa, values, out);
    }
}

for_each_isa! {
    fn apply_binary(operator: Binary, a: &[f32], b: &[f32], out: &mut [f32]) {
        // One loop per operator: a loop over a `match` would not vectorize.
        macro_rules! each {
            ($($operator:ident)*) => {
                match operator {
                    $(Binary::$operator => {
                        let pairs = a.iter().zip(b);
                        out.iter_mut().zip(pairs).for_each(|(out, (&a, &b))| *out = Binary::$operator.apply(a, b));
                    })*
                }
            };
        }
        each!(Add Sub Mul Div Maximum Minimum);
    }
}

for_each_isa! {
    fn apply_unary(operator: Unary, values: &mut [f32]) {
        macro_rules! each {
            ($($operator:pat => $apply:expr,)*) => {
                match operator {
                    $($operator => for value in values.iter_mut() { *value = $apply.apply(*value); })*
                }
            };
        }
        each!(
            Unary::Abs => Unary::Abs,
            Unary::Sqrt => Unary::Sqrt,
            Unary::Rsqrt { epsilon } => Unary::Rsqrt { epsilon },
            Unary::Inverse { epsilon } => Unary::Inverse { epsilon },
            Unary::Square => Unary::Square,
            Unary::Exp => Unary::Exp,
            Unary::Tanh => Unary::Tanh,
            Unary::Sigmoid => Unary::Sigmoid,
            Unary::Silu => Unary::Silu,
            Unary::GeluTanh => Unary::GeluTanh,
            Unary::GeluSigmoid => Unary::GeluSigmoid,
            Unary::Relu => Unary::Relu,
            Unary::Clip { low, high } => Unary::Clip { low, high },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_read_by_the_way_they_repeat() {
        let table: [(&[usize], &[usize], Reading); 8] = [
            (&[1, 6, 4, 1], &[1, 6, 4, 1], Reading::Same),
            (&[6], &[1, 6], Reading::Same),
            (&[], &[2, 3], Reading::Cycle),
            (&[1, 1, 4, 1], &[1, 6, 4, 1], Reading::Cycle),
            (&[4, 5], &[1, 3, 4, 5], Reading::Cycle),
            (&[1, 6, 1, 1], &[1, 6, 4, 1], Reading::Repeat(4)),
            (&[6, 1], &[6, 3], Reading::Strided { extents: vec![6, 3], strides: vec![1, 0] }),
            (&[2, 1, 2], &[2, 3, 2], Reading::Strided { extents: vec![2, 3, 2], strides: vec![2, 0, 1] }),
        ];
        for (from, to, expected) in table {
            assert_eq!(Reading::of(from, to), expected, "{from:?} {to:?}");
        }
    }
}
