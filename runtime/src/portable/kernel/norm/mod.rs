//! A norm that stays inside fp16 at every step, and the addition before it, a block at a time while it is in cache.
//!
//! One sweep adds and looks for the largest magnitudes, one scales and sums up squares, one multiplies with what came of that.
//!
//! With i = peak / max(max|x|, floor) and xs = x · i it is xs · rsqrt(mean(xs²) + (root epsilon · i)²) · weight, which is
//! x · rsqrt(mean(x²) + epsilon) · weight. Each step rounds to fp16, as if it were stored, and the sum is in lane order.

#[cfg(test)]
mod tests;

use half::f16;

use super::Isa;
use super::convert::{narrow, widen};
use super::elementwise::cycle;
use super::isa::for_each_isa;
use super::sums::{accumulate, fold, square};
use crate::portable::arith::half::{magnitude_bits, round};
use crate::portable::arith::lanes::LANES;
use crate::portable::arith::operator::{Binary, Unary};

/// Elements of a block at least, where there are as many: all that is kept of one stays in the first-level cache.
const BLOCK: usize = 512;

/// Columns that a norm may have: with more, a block would be larger than the cache that it is to stay in.
pub const MAX_COLUMNS: usize = 512;

/// A norm of columns over their channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Columns: elements of a channel.
    pub columns: usize,
    /// What the largest magnitude of a column is scaled to.
    pub peak: f16,
    /// Magnitudes below are scaled as if the largest were this.
    pub floor: f16,
    /// The root of what is added to the mean, before scaling.
    pub root_epsilon: f16,
    /// What is added to the mean by itself.
    pub epsilon: f32,
}

/// Working memory of a [`Norm`].
#[derive(Debug)]
pub struct Scratch {
    /// A block that is worked on.
    values: Vec<f32>,
    /// What it is combined with.
    others: Vec<f32>,
    /// A block as it would be stored.
    stored: Vec<f16>,
    /// As long as a block: a factor for each column, over and over.
    factors: Vec<f32>,
    /// `[16, columns]`.
    sums: Vec<f32>,
    /// `[16, columns]`: bits of magnitudes.
    largest: Vec<u16>,
}

impl Scratch {
    /// Enough for norms of up to `columns` columns.
    pub fn with_capacity(columns: usize) -> Self {
        let (lanes, block) = (LANES * columns, BLOCK.max(LANES * columns));
        Self {
            values: vec![0.0; block],
            others: vec![0.0; block],
            stored: vec![f16::ZERO; block],
            factors: vec![0.0; block],
            sums: vec![0.0; lanes],
            largest: vec![0; lanes],
        }
    }
}

impl Norm {
    /// The norm of `x` `[channels, columns]`, with a `weight` per channel.
    ///
    /// # Panics
    /// If lengths do not fit each other, or `scratch` is for fewer columns.
    pub fn run(&self, isa: Isa, x: &[f16], weight: &[f16], out: &mut [f16], scratch: &mut Scratch) {
        let block = self.block(out.len());
        self.clear(scratch);
        for x in x.chunks(block) {
            largest(isa, x, self.lanes(&mut scratch.largest));
        }
        self.finish(isa, x, weight, out, scratch);
    }

    /// The norm of x + y, which is written to `sum`.
    ///
    /// # Panics
    /// As [`Norm::run`].
    pub fn add_and_run(
        &self,
        isa: Isa,
        (x, y, sum): (&[f16], &[f16], &mut [f16]),
        weight: &[f16],
        out: &mut [f16],
        scratch: &mut Scratch,
    ) {
        assert!(x.len() == sum.len() && y.len() == sum.len(), "extents of a sum");
        let block = self.block(out.len());
        self.clear(scratch);
        for ((x, y), sum) in x.chunks(block).zip(y.chunks(block)).zip(sum.chunks_mut(block)) {
            let (values, others) = (&mut scratch.values[..sum.len()], &mut scratch.others[..sum.len()]);
            widen(isa, x, values);
            widen(isa, y, others);
            add(isa, values, others);
            narrow(isa, values, sum);
            largest(isa, sum, self.lanes(&mut scratch.largest));
        }
        self.finish(isa, sum, weight, out, scratch);
    }

    /// Whole rounds of lanes, so that each block begins with the first lane.
    fn block(&self, length: usize) -> usize {
        let round = (LANES * self.columns).max(1);
        (BLOCK / round * round).max(round).min(length.next_multiple_of(round))
    }

    /// The lanes in which extremes are looked for: one column needs no others beside it to fill vectors.
    fn lanes<'a>(&self, largest: &'a mut [u16]) -> &'a mut [u16] {
        if self.columns == 1 { &mut largest[..1] } else { &mut largest[..LANES * self.columns] }
    }

    fn clear(&self, scratch: &mut Scratch) {
        self.lanes(&mut scratch.largest).fill(0);
    }

    /// What is left when the largest magnitudes are known.
    fn finish(&self, isa: Isa, x: &[f16], weight: &[f16], out: &mut [f16], scratch: &mut Scratch) {
        let columns = self.columns;
        assert!(x.len() == out.len() && weight.len() * columns == out.len(), "extents of a norm");
        let (length, block) = (out.len(), self.block(out.len()));
        let Scratch { values, others, stored, factors, sums, largest } = scratch;
        let (factors, sums) = (&mut factors[..block.min(length)], &mut sums[..LANES * columns]);
        let largest = fold_largest(self.lanes(largest), columns);
        for (factor, &bits) in factors.iter_mut().zip(largest) {
            *factor = self.factor(bits);
        }
        cycle(factors, columns);
        sums.fill(0.0);
        for (x, out) in x.chunks(block).zip(out.chunks_mut(block)) {
            let (values, stored) = (&mut values[..out.len()], &mut stored[..out.len()]);
            widen(isa, x, values);
            multiply(isa, values, factors);
            narrow(isa, values, out);
            widen(isa, out, values);
            square(isa, values);
            narrow(isa, values, stored);
            widen(isa, stored, values);
            accumulate(isa, values, sums);
        }
        fold(isa, sums, columns);
        for (factor, &sum) in factors.iter_mut().zip(&sums[..columns]) {
            *factor = self.inverse(sum / weight.len() as f32, *factor);
        }
        cycle(factors, columns);
        for (weight, out) in weight.chunks(block / columns.max(1)).zip(out.chunks_mut(block)) {
            let (values, others) = (&mut values[..out.len()], &mut others[..weight.len()]);
            widen(isa, out, values);
            multiply(isa, values, factors);
            narrow(isa, values, out);
            widen(isa, out, values);
            widen(isa, weight, others);
            multiply_channels(isa, values, others, columns);
            narrow(isa, values, out);
        }
    }

    /// i, given the bits of the largest magnitude.
    fn factor(&self, largest: u16) -> f32 {
        let largest = round(f16::from_bits(largest).to_f32());
        let floored = round(Binary::Maximum.apply(largest.to_f32(), self.floor.to_f32()));
        round(Binary::Div.apply(self.peak.to_f32(), floored.to_f32())).to_f32()
    }

    /// The inverse root, given the mean of squares and i.
    fn inverse(&self, mean: f32, factor: f32) -> f32 {
        let rounded = |value: f32| round(value).to_f32();
        let root = rounded(factor * self.root_epsilon.to_f32());
        let total = rounded(rounded(mean) + rounded(root * root));
        rounded(Unary::Rsqrt { epsilon: self.epsilon }.apply(total))
    }
}

/// The largest of each column among `lanes`, which are one or sixteen a column.
fn fold_largest(lanes: &mut [u16], columns: usize) -> &[u16] {
    let mut length = lanes.len();
    while length > columns {
        length /= 2;
        let (low, high) = lanes[..2 * length].split_at_mut(length);
        low.iter_mut().zip(high).for_each(|(low, high)| *low = (*low).max(*high));
    }
    &lanes[..length]
}

for_each_isa! {
    fn add(values: &mut [f32], others: &[f32]) {
        values.iter_mut().zip(others).for_each(|(value, other)| *value += other);
    }
}

for_each_isa! {
    fn multiply(values: &mut [f32], factors: &[f32]) {
        values.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
    }
}

for_each_isa! {
    /// Takes into each of `lanes` the largest magnitude of those that fall to it. As bits, magnitudes are in order, and NaN is
    /// above all.
    fn largest(x: &[f16], lanes: &mut [u16]) {
        if let [largest] = lanes {
            *largest = x.iter().fold(*largest, |largest, &x| largest.max(magnitude_bits(x)));
            return;
        }
        for x in x.chunks(lanes.len().max(1)) {
            lanes.iter_mut().zip(x).for_each(|(lane, &x)| *lane = (*lane).max(magnitude_bits(x)));
        }
    }
}

for_each_isa! {
    /// Multiplies the `columns` values of each channel with its weight.
    fn multiply_channels(values: &mut [f32], weights: &[f32], columns: usize) {
        macro_rules! each {
            ($($columns:literal)*) => {
                match columns {
                    1 => values.iter_mut().zip(weights).for_each(|(value, weight)| *value *= weight),
                    $($columns => {
                        for (channel, weight) in values.as_chunks_mut::<$columns>().0.iter_mut().zip(weights) {
                            *channel = channel.map(|value| value * weight);
                        }
                    })*
                    _ => {
                        for (channel, weight) in values.chunks_mut(columns.max(1)).zip(weights) {
                            for value in channel {
                                *value *= weight;
                            }
                        }
                    }
                }
            };
        }
        each!(2 4 8);
    }
}
