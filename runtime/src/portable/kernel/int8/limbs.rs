//! 30-bit activations as two int16 limbs, for instruction sets that multiply int16 pairs; and the loop that needs no
//! instruction set at all.

use super::{GROUP, Sums};
use crate::portable::kernel::Isa;
use crate::portable::kernel::isa::for_each_isa;

/// Fraction bits of the high limb: q = high·2¹⁵ + low with −2¹⁴ ≤ low < 2¹⁴ and |high| ≤ 32752.
pub(super) const LOW_BITS: u32 = 15;

/// Elements of which limbs lie together.
pub(super) const PART: usize = 16;

/// Parts of a step.
pub(super) const PARTS: usize = 4;

/// Elements that are multiplied in one step.
pub(super) const STEP: usize = PARTS * PART;

/// 16 elements of one column: a cache line, whose halves can be loaded in the same cycle.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Part {
    pub(super) high: [i16; PART],
    pub(super) low: [i16; PART],
}

/// 64 elements of one column.
pub(super) type Step = [Part; PARTS];

const ZERO: Step = [Part { high: [0; PART], low: [0; PART] }; PARTS];

/// The limbs of several columns: per group of columns, per step, per column of the group.
#[derive(Debug, Clone, Default)]
pub(super) struct Limbs {
    count: usize,
    length: usize,
    steps: Vec<Step>,
}

/// The limbs of one group.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    /// Columns of the group.
    pub(super) count: usize,
    /// Elements of a column.
    pub(super) length: usize,
    /// Per step, per column; the last step is padded with zeros.
    pub(super) steps: &'a [Step],
}

impl Limbs {
    pub(super) fn start(&mut self, count: usize, length: usize) {
        (self.count, self.length) = (count, length);
        self.steps.clear();
        self.steps.resize(count * length.div_ceil(STEP), ZERO);
    }

    pub(super) fn store(&mut self, isa: Isa, column: usize, integers: &[i32]) {
        let (start, count) = self.place(column / GROUP);
        let mut steps = self.steps[start..].iter_mut().skip(column % GROUP).step_by(count);
        let (whole, tail) = integers.as_chunks::<STEP>();
        for (integers, step) in whole.iter().zip(&mut steps) {
            split(isa, integers, step);
        }
        if let (false, Some(step)) = (tail.is_empty(), steps.next()) {
            let mut last = [0; STEP];
            last[..tail.len()].copy_from_slice(tail);
            split(isa, &last, step);
        }
    }

    pub(super) fn group(&self, group: usize) -> Group<'_> {
        let (start, count) = self.place(group);
        let steps = &self.steps[start..start + count * self.length.div_ceil(STEP)];
        Group { count, length: self.length, steps }
    }

    /// Steps that there is room for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.steps.capacity()
    }

    /// Where a group starts, and how many columns it has.
    fn place(&self, group: usize) -> (usize, usize) {
        let first = group * GROUP;
        (first * self.length.div_ceil(STEP), (self.count - first).min(GROUP))
    }
}

for_each_isa! {
    /// The limbs of 64 integers.
    fn split(integers: &[i32; STEP], step: &mut Step) {
        let (integers, _) = integers.as_chunks::<PART>();
        for (integers, part) in integers.iter().zip(step) {
            for i in 0..PART {
                let rounded = (integers[i] + (1 << (LOW_BITS - 1))) >> LOW_BITS;
                part.high[i] = rounded as i16;
                part.low[i] = (integers[i] - (rounded << LOW_BITS)) as i16;
            }
        }
    }
}

impl Group<'_> {
    /// The sums of every row of `weights` with the group's columns, without special instructions.
    pub(super) fn multiply(self, weights: &[i8], sums: &mut [Sums]) {
        for (row, sums) in weights.chunks_exact(self.length.max(1)).zip(sums) {
            let (blocks, tail) = row.as_chunks::<STEP>();
            let mut last = [0; STEP];
            last[..tail.len()].copy_from_slice(tail);
            for (block, steps) in blocks.iter().chain([&last]).zip(self.steps.chunks(self.count)) {
                for (step, sum) in steps.iter().zip(sums.iter_mut()) {
                    *sum += product(block, step);
                }
            }
        }
    }
}

/// No limb's sum leaves 32 bits: 64 · 32752 · 128 < 2³¹.
fn product(weights: &[i8; STEP], step: &Step) -> i64 {
    let (mut high, mut low) = ([0i32; PART], [0i32; PART]);
    let (weights, _) = weights.as_chunks::<PART>();
    for (weights, part) in weights.iter().zip(step) {
        for i in 0..PART {
            let weight = i32::from(weights[i]);
            high[i] += weight * i32::from(part.high[i]);
            low[i] += weight * i32::from(part.low[i]);
        }
    }
    (i64::from(high.iter().sum::<i32>()) << LOW_BITS) + i64::from(low.iter().sum::<i32>())
}
