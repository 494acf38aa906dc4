//! NEON: digits against weights as they lie, with `sdot`, and with `smmla` where [`matrix`] can use it.
//!
//! Both instructions multiply signed bytes, so nothing has to be offset and taken off again. A few rows go together:
//! they share what is loaded of the digits, and their sums are enough to hide the instruction's latency.
#![allow(unsafe_code, clippy::wildcard_imports)]

mod matrix;
mod pairs;

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

pub(super) use matrix::multiply as multiply_i8mm;
pub(super) use pairs::Pairs;

use super::digits::{BLOCK, Block, DENSE, Group};
use super::{GROUP, Sums};

/// The sums of every row of `weights` with the group's columns. Only on machines with dot products of bytes.
pub(super) fn multiply(group: Group<'_>, weights: &[i8], sums: &mut [Sums]) {
    // SAFETY: the caller holds an `Isa` that was detected to include the feature.
    unsafe {
        match group.lowest.len() {
            1 => sweep::<1, 4>(group, weights, sums),
            2 => sweep::<2, 4>(group, weights, sums),
            3 => sweep::<3, 2>(group, weights, sums),
            _ => sweep::<GROUP, 2>(group, weights, sums),
        }
    }
}

/// T columns, R rows at a time.
#[target_feature(enable = "dotprod")]
fn sweep<const T: usize, const R: usize>(group: Group<'_>, weights: &[i8], sums: &mut [Sums]) {
    for part in parts(group.length, T) {
        let mut rows = weights.chunks_exact(R * group.length);
        let mut sums = sums.chunks_exact_mut(R);
        for (rows, sums) in rows.by_ref().zip(sums.by_ref()) {
            together::<T, R>(group, part.clone(), rows, sums);
        }
        let rest = rows.remainder().chunks_exact(group.length);
        for (row, sums) in rest.zip(sums.into_remainder().chunks_exact_mut(1)) {
            together::<T, 1>(group, part.clone(), row, sums);
        }
    }
}

/// Blocks of a column, in parts whose dense digits, of T columns, take three quarters of a first-level cache of 64 KiB.
fn parts(length: usize, columns: usize) -> impl Iterator<Item = Range<usize>> {
    let blocks = length.div_ceil(BLOCK);
    let parts = blocks.div_ceil(256 / columns).max(1);
    let size = blocks.div_ceil(parts).max(1);
    (0..blocks).step_by(size).map(move |first| first..(first + size).min(blocks))
}

/// R rows with the blocks of one part.
#[target_feature(enable = "dotprod")]
#[inline]
fn together<const T: usize, const R: usize>(
    group: Group<'_>,
    part: Range<usize>,
    rows: &[i8],
    sums: &mut [Sums],
) {
    let rows = Rows::<R>::new(rows, group.length);
    let (dense, _) = group.dense.as_chunks::<T>();
    let mut lanes = [[[vdupq_n_s32(0); DENSE]; T]; R];
    // One call for whole blocks and tails: only then the compiler keeps the lanes in registers.
    for block in part.clone() {
        add(&mut lanes, rows.block(block), &dense[block]);
    }
    for (sums, lanes) in sums.iter_mut().zip(lanes) {
        for (sum, [d1, d2, d3]) in sums.iter_mut().zip(lanes) {
            *sum += (total(d1) << 8) + (total(d2) << 16) + (total(d3) << 24);
        }
    }
    lowest(group, part, &rows, sums);
}

/// The lowest digits, of the blocks that have any.
#[target_feature(enable = "dotprod")]
#[inline]
fn lowest<const R: usize>(group: Group<'_>, part: Range<usize>, rows: &Rows<'_, R>, sums: &mut [Sums]) {
    for (column, lowest) in group.lowest.iter().enumerate() {
        let used = lowest.used_in(part.clone());
        if used.is_empty() {
            continue;
        }
        let mut lanes = [vdupq_n_s32(0); R];
        for &block in used {
            let block = block as usize;
            let weights = rows.block(block);
            for quarter in 0..BLOCK / WIDTH {
                let digits = load(&lowest.blocks[block].0, quarter);
                for (lanes, weights) in lanes.iter_mut().zip(weights) {
                    *lanes = sdot(*lanes, load(weights, quarter), digits);
                }
            }
        }
        for (sums, lanes) in sums.iter_mut().zip(lanes) {
            sums[column] += total(lanes);
        }
    }
}

/// R rows of equal length, in blocks.
struct Rows<'a, const R: usize> {
    blocks: [&'a [[i8; BLOCK]]; R],
    /// What is left of each row behind its whole blocks, padded with zeros.
    tails: [Block; R],
    /// Whole blocks of a row.
    whole: usize,
}

impl<'a, const R: usize> Rows<'a, R> {
    fn new(rows: &'a [i8], length: usize) -> Self {
        let whole = length / BLOCK;
        let mut blocks = [&[][..]; R];
        let mut tails = [Block([0; BLOCK]); R];
        for ((row, blocks), last) in rows.chunks_exact(length).zip(&mut blocks).zip(&mut tails) {
            let tail;
            (*blocks, tail) = row.as_chunks();
            last.0[..tail.len()].copy_from_slice(tail);
        }
        Self { blocks, tails, whole }
    }

    /// One block of every row, or the tails behind the last.
    #[inline(always)]
    fn block(&self, block: usize) -> [&[i8; BLOCK]; R] {
        if block < self.whole {
            self.blocks.map(|blocks| &blocks[block])
        } else {
            self.tails.each_ref().map(|tail| &tail.0)
        }
    }
}

/// Bytes of a register.
const WIDTH: usize = 16;

/// Adds the dense digits of one block.
#[target_feature(enable = "dotprod")]
#[inline]
fn add<const T: usize, const R: usize>(
    lanes: &mut [[[int32x4_t; DENSE]; T]; R],
    weights: [&[i8; BLOCK]; R],
    digits: &[[Block; DENSE]; T],
) {
    for quarter in 0..BLOCK / WIDTH {
        let mut w = [vdupq_n_s8(0); R];
        for r in 0..R {
            w[r] = load(weights[r], quarter);
        }
        for t in 0..T {
            for d in 0..DENSE {
                let digits = load(&digits[t][d].0, quarter);
                for r in 0..R {
                    lanes[r][t][d] = sdot(lanes[r][t][d], w[r], digits);
                }
            }
        }
    }
}

/// Adds to each int32 the products of four pairs of bytes. No lane overflows: 65536 · 128 · 128 < 2³¹.
#[target_feature(enable = "dotprod")]
#[inline]
fn sdot(sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let mut sums = sums;
    // SAFETY: the function is compiled for the instruction, which reads and writes these registers alone.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// The sum of four int32, which does not overflow either: together they have seen a row.
#[target_feature(enable = "neon")]
#[inline]
fn total(lanes: int32x4_t) -> i64 {
    i64::from(vaddvq_s32(lanes))
}

#[inline(always)]
fn load(block: &[i8; BLOCK], quarter: usize) -> int8x16_t {
    let (quarters, _) = block.as_chunks::<WIDTH>();
    // SAFETY: sixteen bytes are read from an array of sixteen.
    unsafe { vld1q_s8(quarters[quarter].as_ptr()) }
}
