//! `smmla`: two rows times two digits, eight elements at a time.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::super::digits::{BLOCK, DENSE, Digits};
use super::super::{GROUP, Sums};
use super::pairs::{Pair, Pairs};
use super::{Rows, WIDTH, load, lowest, parts};

/// Rows that go together, two in a register.
const ROWS: usize = 4;

/// The sums of every row of `weights` with the columns of a group. Only on machines with NEON's matrix products of bytes.
pub(in super::super) fn multiply(
    (digits, pairs): (&Digits, &Pairs),
    group: usize,
    weights: &[i8],
    sums: &mut [Sums],
) {
    let (digits, pairs) = (digits.group(group), pairs.group(group));
    // Rows that are left over, and columns that are alone, would leave a part of every product unused.
    let whole = if digits.lowest.len() == 1 { 0 } else { sums.len() / ROWS * ROWS };
    let (together, rest) = weights.split_at(whole * digits.length);
    let (together_sums, rest_sums) = sums.split_at_mut(whole);
    // SAFETY: the caller holds an `Isa` that was detected to include the features.
    unsafe {
        match digits.lowest.len() {
            1 => {}
            2 => sweep::<2, 3, 2>(digits, pairs, together, together_sums),
            3 => sweep::<3, 5, 1>(digits, pairs, together, together_sums),
            _ => sweep::<GROUP, 6, 1>(digits, pairs, together, together_sums),
        }
    }
    super::multiply(digits, rest, rest_sums);
}

/// The sums of two rows with two digits: those of the first row, those of the second.
type Lanes<const P: usize> = [[int32x4_t; P]; ROWS / 2];

/// T columns, whose digits are P pairs. U sets of registers take turns, where one alone would wait for its latency.
#[target_feature(enable = "dotprod,i8mm")]
fn sweep<const T: usize, const P: usize, const U: usize>(
    group: super::Group<'_>,
    pairs: &[Pair],
    weights: &[i8],
    sums: &mut [Sums],
) {
    let (pairs, _) = pairs.as_chunks::<P>();
    for part in parts(group.length, T) {
        let rows = weights.chunks_exact(ROWS * group.length);
        for (rows, sums) in rows.zip(sums.chunks_exact_mut(ROWS)) {
            let rows = Rows::<ROWS>::new(rows, group.length);
            let totals = products::<P, U>(&rows, part.clone(), pairs);
            for (row, sums) in sums.iter_mut().enumerate() {
                for (t, sum) in sums[..T].iter_mut().enumerate() {
                    for d in 0..DENSE {
                        let number = DENSE * t + d;
                        let total = totals[row / 2][number / 2][row % 2 * 2 + number % 2];
                        *sum += i64::from(total) << (8 * (d + 1));
                    }
                }
            }
            lowest(group, part.clone(), &rows, sums);
        }
    }
}

/// Every row with every dense digit, over the blocks of one part.
#[target_feature(enable = "dotprod,i8mm")]
#[inline]
fn products<const P: usize, const U: usize>(
    rows: &Rows<'_, ROWS>,
    part: Range<usize>,
    pairs: &[[Pair; P]],
) -> [[[i32; 4]; P]; ROWS / 2] {
    let mut lanes = [[[vdupq_n_s32(0); P]; ROWS / 2]; U];
    for block in part {
        add(&mut lanes, rows.block(block), &pairs[block]);
    }
    let mut totals = [[[0; 4]; P]; ROWS / 2];
    for i in 0..ROWS / 2 {
        for p in 0..P {
            let mut sum = lanes[0][i][p];
            for lanes in &lanes[1..] {
                sum = vaddq_s32(sum, lanes[i][p]);
            }
            // SAFETY: four int32 are written to an array of four.
            unsafe { vst1q_s32(totals[i][p].as_mut_ptr(), sum) };
        }
    }
    totals
}

/// Adds one block.
#[target_feature(enable = "dotprod,i8mm")]
#[inline]
fn add<const P: usize, const U: usize>(
    lanes: &mut [Lanes<P>; U],
    weights: [&[i8; BLOCK]; ROWS],
    pairs: &[Pair; P],
) {
    for quarter in 0..BLOCK / WIDTH {
        for half in 0..2 {
            let turn = quarter * 2 + half;
            let mut two = [vdupq_n_s8(0); ROWS / 2];
            for i in 0..ROWS / 2 {
                let a = vreinterpretq_s64_s8(load(weights[2 * i], quarter));
                let b = vreinterpretq_s64_s8(load(weights[2 * i + 1], quarter));
                two[i] = vreinterpretq_s8_s64(if half == 0 { vzip1q_s64(a, b) } else { vzip2q_s64(a, b) });
            }
            for p in 0..P {
                // A pair has eight registers in its two blocks.
                let digits = load(&pairs[p][turn / 4].0, turn % 4);
                for i in 0..ROWS / 2 {
                    lanes[turn % U][i][p] = smmla(lanes[turn % U][i][p], two[i], digits);
                }
            }
        }
    }
}

/// Adds the products of two rows of eight bytes each with two others. No lane overflows: 65536 · 128 · 128 < 2³¹.
#[target_feature(enable = "i8mm")]
#[inline]
fn smmla(sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let mut sums = sums;
    // SAFETY: the function is compiled for the instruction, which reads and writes these registers alone.
    unsafe {
        asm!(
            "smmla {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
