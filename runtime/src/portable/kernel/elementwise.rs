//! Elementwise operators over fp16 slices: a block at a time is widened, and goes through all operators of an
//! [`Expression`] before the next one does. Each operator's result is rounded to fp16, as if it were stored.

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

    /// Widens what the results from `start` on read; `start` is a multiple of [`BLOCK`].
    fn read(&self, isa: Isa, x: &[f16], start: usize, block: &mut [f32]) {
        match self {
            Self::Same => widen(isa, &x[start..start + block.len()], block),
            // Blocks begin where the cycle does.
            Self::Cycle if BLOCK.is_multiple_of(x.len()) => {
                let known = x.len().min(block.len());
                widen(isa, &x[..known], &mut block[..known]);
                cycle(block, known);
            }
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

/// Writes the first `known` of `values`, over and over, behind themselves.
pub(super) fn cycle(values: &mut [f32], known: usize) {
    if let ([first, rest @ ..], 1) = (&mut *values, known) {
        rest.fill(*first);
        return;
    }
    let mut known = known.min(values.len());
    while known > 0 && known < values.len() {
        let more = known.min(values.len() - known);
        values.copy_within(..more, known);
        known += more;
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

/// Blocks that wait at the same time for an operator to take them.
pub const DEPTH: usize = 4;

/// What an [`Expression`] does next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Term {
    /// Reads the next operand.
    Operand,
    /// Applies to the latest block.
    Unary(Unary),
    /// Applies to the latest two blocks.
    Binary(Binary),
}

impl Term {
    /// Whether it is an operator that takes many times as long as an addition.
    fn is_long(&self) -> bool {
        use Unary::{Exp, GeluSigmoid, GeluTanh, Sigmoid, Silu, Tanh};
        matches!(self, Self::Unary(Exp | Tanh | Sigmoid | Silu | GeluTanh | GeluSigmoid))
    }
}

/// Elementwise operators over operands that are read once.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    terms: Vec<Term>,
    /// How each operand is read, in the order of the terms.
    readings: Vec<Reading>,
    /// The most blocks that wait at once.
    depth: usize,
    /// What [`Expression::is_long`] says.
    long: bool,
}

impl Expression {
    /// `terms` in postfix order, over as many operands as there are `readings`; `None` if that does not come to one result, or
    /// takes more than [`DEPTH`] blocks on the way.
    pub fn new(terms: Vec<Term>, readings: Vec<Reading>) -> Option<Self> {
        let (mut depth, mut deepest, mut operands) = (0_usize, 0, 0);
        for term in &terms {
            depth = match term {
                Term::Operand => depth + 1,
                Term::Unary(_) => depth,
                Term::Binary(_) if depth > 1 => depth - 1,
                Term::Binary(_) => return None,
            };
            deepest = deepest.max(depth);
            operands += usize::from(*term == Term::Operand);
            if !(1..=DEPTH).contains(&depth) {
                return None;
            }
        }
        let long = terms.iter().any(Term::is_long);
        (depth == 1 && operands == readings.len()).then_some(Self { terms, readings, depth: deepest, long })
    }

    /// Whether an operator takes so long that a few thousand elements are worth sharing among threads.
    pub fn is_long(&self) -> bool {
        self.long
    }

    /// Computes the results from `start` on, a multiple of 256; `operand` gives each operand whole.
    pub fn run<'a>(&self, isa: Isa, operand: impl Fn(usize) -> &'a [f16], start: usize, out: &mut [f16]) {
        // Most take no more than two, and small results should not pay for clearing more.
        match self.depth {
            ..=2 => self.run_in::<2>(isa, operand, start, out),
            _ => self.run_in::<DEPTH>(isa, operand, start, out),
        }
    }

    fn run_in<'a, const D: usize>(
        &self,
        isa: Isa,
        operand: impl Fn(usize) -> &'a [f16],
        start: usize,
        out: &mut [f16],
    ) {
        let mut blocks = [[0f32; BLOCK]; D];
        for (index, out) in out.chunks_mut(BLOCK).enumerate() {
            let (start, length) = (start + index * BLOCK, out.len());
            let mut readings = self.readings.iter().enumerate();
            let mut depth = 0;
            for (place, term) in self.terms.iter().enumerate() {
                match term {
                    Term::Operand => {
                        if let Some((index, reading)) = readings.next() {
                            reading.read(isa, operand(index), start, &mut blocks[depth][..length]);
                        }
                        depth += 1;
                        continue;
                    }
                    Term::Unary(operator) => {
                        apply_unary(isa, *operator, &mut blocks[depth - 1][..length]);
                    }
                    Term::Binary(operator) => {
                        depth -= 1;
                        let (a, b) = blocks.split_at_mut(depth);
                        apply_binary(isa, *operator, &mut a[depth - 1][..length], &b[0][..length]);
                    }
                }
                if place + 1 < self.terms.len() {
                    let values = &mut blocks[depth - 1][..length];
                    narrow(isa, values, out);
                    widen(isa, out, values);
                }
            }
            narrow(isa, &blocks[0][..length], out);
        }
    }
}

for_each_isa! {
    fn apply_binary(operator: Binary, a: &mut [f32], b: &[f32]) {
        // One loop per operator: a loop over a `match` would not vectorize.
        macro_rules! each {
            ($($operator:ident)*) => {
                match operator {
                    $(Binary::$operator => {
                        a.iter_mut().zip(b).for_each(|(a, b)| *a = Binary::$operator.apply(*a, *b));
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

    #[test]
    fn operators_in_between_round_as_if_they_stored() {
        let halves = |values: &[f32]| values.iter().map(|&value| f16::from_f32(value)).collect::<Vec<_>>();
        let count = 3 * BLOCK + 5;
        let x: Vec<f16> = (0..count).map(|i| f16::from_f32((i % 701) as f32 * 0.37 - 120.0)).collect();
        let (y, z) = (halves(&[0.1, -7.3, 1e-4]), halves(&[3.3]));
        let readings = || vec![Reading::Same, Reading::Cycle, Reading::Same, Reading::Cycle];
        // (x · y) + silu(x − z)
        let terms = [
            Term::Operand,
            Term::Operand,
            Term::Binary(Binary::Mul),
            Term::Operand,
            Term::Operand,
            Term::Binary(Binary::Sub),
            Term::Unary(Unary::Silu),
            Term::Binary(Binary::Add),
        ];
        let expression = Expression::new(terms.to_vec(), readings()).unwrap();
        let operands = [&x[..], &y, &x, &z];
        let round = |value: f32| f16::from_f32(value).to_f32();
        let expected: Vec<f16> = (0..count)
            .map(|i| {
                let (x, y, z) = (x[i].to_f32(), y[i % 3].to_f32(), z[0].to_f32());
                let (left, right) = (round(x * y), round(Unary::Silu.apply(round(x - z))));
                f16::from_f32(left + right)
            })
            .collect();
        for isa in Isa::available() {
            let mut out = vec![f16::ZERO; count];
            // In two parts, as two threads would.
            let (first, second) = out.split_at_mut(2 * BLOCK);
            expression.run(isa, |index| operands[index], 0, first);
            expression.run(isa, |index| operands[index], 2 * BLOCK, second);
            assert_eq!(out, expected, "{isa:?}");
        }
        assert!(expression.is_long());
    }

    #[test]
    fn only_whole_expressions_are_made() {
        let (operand, add) = (Term::Operand, Term::Binary(Binary::Add));
        let table: [(&[Term], usize, bool); 7] = [
            (&[operand, operand, add], 2, true),
            (&[operand, Term::Unary(Unary::Relu)], 1, true),
            (&[operand, operand, operand, operand, add, add, add], 4, true),
            (&[operand, operand, operand, operand, operand, add, add, add, add], 5, false),
            (&[operand, add], 1, false),
            (&[operand, operand], 2, false),
            (&[operand, operand, add], 1, false),
        ];
        for (terms, operands, whole) in table {
            let made = Expression::new(terms.to_vec(), vec![Reading::Same; operands]);
            assert_eq!(made.is_some(), whole, "{terms:?}");
        }
        assert_eq!(Expression::new(vec![], vec![]), None);
    }
}
