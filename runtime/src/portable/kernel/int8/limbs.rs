//! 30-bit activations as two int16 limbs, for instruction sets that multiply int16 pairs; and the loop that needs no
//! instruction set at all.

use super::{GROUP, Sums};

/// Fraction bits of the high limb: q = high·2¹⁵ + low with −2¹⁴ ≤ low < 2¹⁴ and |high| ≤ 32752.
pub(super) const LOW_BITS: u32 = 15;

/// Elements that are multiplied in one step.
pub(super) const STEP: usize = 16;

/// Steps after which int32 lanes are emptied. Each lane then holds at most 128 pairs of products:
/// 128 · 2 · 32752 · 128 < 2³¹.
pub(super) const STEPS: usize = 128;

/// Sixteen elements of one column.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    pub(super) high: [i16; STEP],
    pub(super) low: [i16; STEP],
}

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
        self.steps.resize(count * length.div_ceil(STEP), Step::default());
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
            for (part, steps) in row.chunks(STEP * STEPS).zip(self.steps.chunks(STEPS * self.count)) {
                for (column, sum) in sums.iter_mut().enumerate().take(self.count) {
                    let steps = steps.iter().skip(column).step_by(self.count);
                    *sum += partial(part, steps);
                }
            }
        }
    }
}

fn partial<'a>(weights: &[i8], steps: impl Iterator<Item = &'a Step>) -> i64 {
    let (mut high, mut low) = ([0i32; STEP], [0i32; STEP]);
    for (weights, step) in weights.chunks(STEP).zip(steps) {
        let mut w = [0i16; STEP];
        w.iter_mut().zip(weights).for_each(|(w, &weight)| *w = i16::from(weight));
        for lane in 0..STEP {
            high[lane] += i32::from(w[lane]) * i32::from(step.high[lane]);
            low[lane] += i32::from(w[lane]) * i32::from(step.low[lane]);
        }
    }
    (total(&high) << LOW_BITS) + total(&low)
}

/// The sum of int32 lanes.
pub(super) fn total(lanes: &[i32]) -> i64 {
    lanes.iter().map(|&lane| i64::from(lane)).sum()
}
