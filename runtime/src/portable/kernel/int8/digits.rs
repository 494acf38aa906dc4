//! 30-bit activations as four balanced base-256 digits, for instruction sets that multiply bytes.
//!
//! The lowest digit is zero for every element above about 2⁻¹¹ of its column's largest, so it is kept apart, with a
//! list of the blocks in which some element of the column has it.

use std::ops::Range;

use crate::portable::kernel::Isa;
use crate::portable::kernel::isa::for_each_isa;

/// Elements that are multiplied in one step.
pub(super) const BLOCK: usize = 64;

/// Digits that every block has: all but the lowest.
pub(super) const DENSE: usize = 3;

/// One digit of 64 elements.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Block(pub(super) [i8; BLOCK]);

const ZERO: Block = Block([0; BLOCK]);

/// What the lowest digits of one column are.
#[derive(Debug, Clone, Default)]
pub(super) struct Lowest {
    /// Every block of the column, the last padded with zeros.
    pub(super) blocks: Vec<Block>,
    /// Those that are not zero, ascending.
    pub(super) used: Vec<u32>,
}

impl Lowest {
    /// Those blocks of `part` that are not zero, ascending.
    pub(super) fn used_in(&self, part: Range<usize>) -> &[u32] {
        let place = |block: usize| self.used.partition_point(|&used| (used as usize) < block);
        &self.used[place(part.start)..place(part.end)]
    }
}

/// The digits of several columns.
#[derive(Debug, Clone)]
pub(super) struct Digits {
    /// Columns of a group, at most.
    together: usize,
    count: usize,
    length: usize,
    /// Per group, per block, per column of the group: digits 1, 2 and 3.
    dense: Vec<[Block; DENSE]>,
    /// Digit 0, per column.
    lowest: Vec<Lowest>,
    /// −128 · Σ digit, per column, for digits 0 to 3.
    #[cfg(target_arch = "x86_64")]
    corrections: Vec<[i32; 4]>,
    /// Per group, the blocks in which some column has lowest digits: a bit for each.
    #[cfg(target_arch = "x86_64")]
    used: Vec<u64>,
}

/// The digits of one group of columns.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    /// Elements of a column.
    pub(super) length: usize,
    /// Per block, per column.
    pub(super) dense: &'a [[Block; DENSE]],
    /// Per column.
    pub(super) lowest: &'a [Lowest],
    /// Per column, what takes the weights' offset of 128 off each digit's sum, where bytes of weights are unsigned.
    #[cfg(target_arch = "x86_64")]
    pub(super) corrections: &'a [[i32; 4]],
    /// From the group's first block on.
    #[cfg(target_arch = "x86_64")]
    pub(super) used: &'a [u64],
}

#[cfg(target_arch = "x86_64")]
impl Group<'_> {
    /// The blocks of `part` in which some column has lowest digits, 64 at a time: the first's number, and a bit for each.
    pub(super) fn used_in(&self, part: &Range<usize>) -> impl Iterator<Item = (usize, u64)> {
        (part.start / 64..part.end.div_ceil(64)).map(|word| {
            let from = u64::MAX << part.start.saturating_sub(word * 64);
            let to = u64::MAX >> 64usize.saturating_sub(part.end - word * 64);
            (word * 64, self.used[word] & from & to)
        })
    }
}

impl Digits {
    /// No columns yet, of which `together` will be multiplied together.
    pub(super) fn in_groups_of(together: usize) -> Self {
        Self {
            together,
            count: 0,
            length: 0,
            dense: Vec::new(),
            lowest: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            corrections: Vec::new(),
            #[cfg(target_arch = "x86_64")]
            used: Vec::new(),
        }
    }

    /// Number of groups, of which the last may have fewer columns.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn groups(&self) -> usize {
        self.count.div_ceil(self.together)
    }

    pub(super) fn start(&mut self, count: usize, length: usize) {
        (self.count, self.length) = (count, length);
        let blocks = self.blocks();
        self.dense.clear();
        self.dense.resize(count * blocks, [ZERO; DENSE]);
        #[cfg(target_arch = "x86_64")]
        {
            self.corrections.clear();
            self.corrections.resize(count, [0; 4]);
            self.used.clear();
            self.used.resize(self.groups() * self.words(), 0);
        }
        if self.lowest.len() < count {
            self.lowest.resize(count, Lowest::default());
        }
        for lowest in &mut self.lowest {
            lowest.blocks.clear();
            lowest.blocks.resize(blocks, ZERO);
            lowest.used.clear();
            lowest.used.reserve(blocks);
        }
    }

    pub(super) fn store(&mut self, isa: Isa, column: usize, integers: &[i32]) {
        let group = column / self.together;
        let (start, count) = self.place(group);
        #[cfg(target_arch = "x86_64")]
        let first = group * self.words();
        let dense = self.dense[start..].iter_mut().skip(column % self.together).step_by(count);
        let lowest = &mut self.lowest[column];
        let mut sums = [0i32; 4];
        for (block, (integers, dense)) in integers.chunks(BLOCK).zip(dense).enumerate() {
            let mut q = [0i32; BLOCK];
            q[..integers.len()].copy_from_slice(integers);
            split(isa, q, &mut lowest.blocks[block], dense, &mut sums);
            if lowest.blocks[block].0 != ZERO.0 {
                lowest.used.push(block as u32);
            }
        }
        #[cfg(target_arch = "x86_64")]
        {
            self.corrections[column] = sums.map(|sum| -128 * sum);
            for &block in &lowest.used {
                self.used[first + block as usize / 64] |= 1 << (block % 64);
            }
        }
    }

    pub(super) fn group(&self, group: usize) -> Group<'_> {
        let (start, count) = self.place(group);
        let first = group * self.together;
        let columns = first..first + count;
        Group {
            length: self.length,
            dense: &self.dense[start..start + count * self.blocks()],
            lowest: &self.lowest[columns.clone()],
            #[cfg(target_arch = "x86_64")]
            corrections: &self.corrections[columns],
            #[cfg(target_arch = "x86_64")]
            used: &self.used[group * self.words()..],
        }
    }

    /// Blocks of a column.
    fn blocks(&self) -> usize {
        self.length.div_ceil(BLOCK)
    }

    /// Words of a group's `used`.
    #[cfg(target_arch = "x86_64")]
    fn words(&self) -> usize {
        self.blocks().div_ceil(64)
    }

    /// Where a group starts, and how many columns it has.
    fn place(&self, group: usize) -> (usize, usize) {
        let first = group * self.together;
        (first * self.blocks(), (self.count - first).min(self.together))
    }
}

for_each_isa! {
    /// The digits of 64 integers, and their sums added to `sums`.
    fn split(q: [i32; BLOCK], low: &mut Block, dense: &mut [Block; DENSE], sums: &mut [i32; 4]) {
        let mut q = q;
        let [d1, d2, d3] = dense;
        for (digits, sum) in [low, d1, d2, d3].into_iter().zip(sums) {
            for i in 0..BLOCK {
                digits.0[i] = q[i] as i8;
                *sum += i32::from(digits.0[i]);
                q[i] = (q[i] + 128) >> 8;
            }
        }
    }
}
