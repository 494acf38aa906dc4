//! Dense digits in the order in which `smmla` multiplies them: two digits in turns of eight bytes.

use super::super::GROUP;
use super::super::digits::{BLOCK, Block, DENSE, Digits};

/// Bytes of a digit that follow each other.
const TURN: usize = 8;

/// Two digits of 64 elements: eight bytes of one, eight of the other, and so on.
pub(super) type Pair = [Block; 2];

const ZERO: Pair = [Block([0; BLOCK]); 2];

/// The dense digits of several columns. Within a group, digit `d` of column `t` is number `DENSE · t + d`; a pair is an
/// even number and the odd one behind it, or zeros where there is none.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Pairs {
    count: usize,
    blocks: usize,
    /// Per group of columns, per block.
    pairs: Vec<Pair>,
}

impl Pairs {
    pub(in super::super) fn start(&mut self, count: usize, length: usize) {
        (self.count, self.blocks) = (count, length.div_ceil(BLOCK));
        let (last, width) = self.place(count / GROUP);
        self.pairs.clear();
        self.pairs.resize(last + width * self.blocks, ZERO);
    }

    /// Takes over a column that `digits` has stored.
    pub(in super::super) fn store(&mut self, column: usize, digits: &Digits) {
        let (start, width) = self.place(column / GROUP);
        let group = digits.group(column / GROUP);
        let columns = group.lowest.len();
        let dense = group.dense.iter().skip(column % GROUP).step_by(columns);
        for (pairs, digits) in self.pairs[start..].chunks_mut(width).zip(dense) {
            for (d, digit) in digits.iter().enumerate() {
                let number = column % GROUP * DENSE + d;
                let turns = pairs[number / 2].iter_mut().flat_map(|block| block.0.chunks_exact_mut(TURN));
                for (turn, bytes) in turns.skip(number % 2).step_by(2).zip(digit.0.chunks_exact(TURN)) {
                    turn.copy_from_slice(bytes);
                }
            }
        }
    }

    /// The pairs of one group: per block, as many as its columns need.
    pub(super) fn group(&self, group: usize) -> &[Pair] {
        let (start, width) = self.place(group);
        &self.pairs[start..start + width * self.blocks]
    }

    /// Where a group starts, and how many pairs a block of it has.
    fn place(&self, group: usize) -> (usize, usize) {
        let columns = (self.count - group * GROUP).min(GROUP);
        (group * width(GROUP) * self.blocks, width(columns))
    }
}

/// Pairs that hold the digits of so many columns.
const fn width(columns: usize) -> usize {
    (DENSE * columns).div_ceil(2)
}
