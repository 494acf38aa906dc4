//! 30-bit activations as two int16 limbs, for instruction sets that multiply int16 pairs; and the loop that needs no
//! instruction set at all.

use super::{GROUP, Sums};

/// Fraction bits of the high limb: q = high·2¹⁵ + low with −2¹⁴ ≤ low < 2¹⁴ and |high| ≤ 32752.
pub(super) const LOW_BITS: u32 = 15;

/// Elements that are multiplied in one step.
pub(super) const STEP: usize = 64;

/// 64 elements of one column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) high: [i16; STEP],
    pub(super) low: [i16; STEP],
}

const ZERO: Step = Step { high: [0; STEP], low: [0; STEP] };

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

    pub(super) fn store(&mut self, column: usize, integers: &[i32]) {
        let (start, count) = self.place(column / GROUP);
        let steps = self.steps[start..].iter_mut().skip(column % GROUP).step_by(count);
        for (integers, step) in integers.chunks(STEP).zip(steps) {
            for ((&q, high), low) in integers.iter().zip(&mut step.high).zip(&mut step.low) {
                let rounded = (q + (1 << (LOW_BITS - 1))) >> LOW_BITS;
                *high = rounded as i16;
                *low = (q - (rounded << LOW_BITS)) as i16;
            }
        }
    }

    pub(super) fn group(&self, group: usize) -> Group<'_> {
        let (start, count) = self.place(group);
        let steps = &self.steps[start..start + count * self.length.div_ceil(STEP)];
        Group { count, length: self.length, steps }
    }

    /// Where a group starts, and how many columns it has.
    fn place(&self, group: usize) -> (usize, usize) {
        let first = group * GROUP;
        (first * self.length.div_ceil(STEP), (self.count - first).min(GROUP))
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
                    *sum += (dot(block, &step.high) << LOW_BITS) + dot(block, &step.low);
                }
            }
        }
    }
}

/// Fits in 32 bits: 64 · 32752 · 128 < 2³¹.
fn dot(weights: &[i8; STEP], limbs: &[i16; STEP]) -> i64 {
    let weights = weights.map(i16::from);
    let products = weights.iter().zip(limbs).map(|(&weight, &limb)| i32::from(weight) * i32::from(limb));
    i64::from(products.sum::<i32>())
}
