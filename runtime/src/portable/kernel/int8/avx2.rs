//! AVX2: int16 limbs against sign-extended weights with `vpmaddwd`.
//!
//! Instructions are what runs out here: a multiplication and an addition for sixteen weights, a column and a limb. So a
//! register of weights meets all limbs of its group, which are operands in memory and no loads of their own; and rows are
//! taken in stretches whose limbs the first-level cache holds for a whole strip of rows. Stretches are no linear
//! stream, so the next one is asked for on the way.
#![allow(unsafe_code, clippy::wildcard_imports)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::limbs::{Group, LOW_BITS, Limbs, PART, PARTS, Part, STEP, Step};
use super::{GROUP, STRIP, Sums};

/// Steps of all columns of a stretch: 16 KiB of limbs, half of the first-level cache. No int32 lane overflows in as many
/// of one column: 64 · 4 · 2 · 32752 · 128 < 2³¹.
const STEPS: usize = 64;

/// Bytes between the weights that are multiplied and those that are asked for, where they are read as they lie.
const AHEAD: usize = 2048;

/// The sums of every row of a strip of `weights` with as many groups of columns as `sums` has, from group `first` on.
/// Only on machines with AVX2.
pub(super) fn multiply(limbs: &Limbs, first: usize, weights: &[i8], sums: &mut [[Sums; STRIP]]) {
    for (index, sums) in sums.iter_mut().enumerate() {
        let group = limbs.group(first + index);
        // SAFETY: the caller holds an `Isa` that was detected to include AVX2.
        unsafe {
            match group.count {
                1 => sweep::<1>(group, weights, sums, index == 0),
                2 => sweep::<2>(group, weights, sums, index == 0),
                3 => sweep::<3>(group, weights, sums, index == 0),
                _ => sweep::<GROUP>(group, weights, sums, index == 0),
            }
        }
    }
}

/// T columns. The `first` to read the strip asks for what comes after.
#[target_feature(enable = "avx2")]
fn sweep<const T: usize>(group: Group<'_>, weights: &[i8], sums: &mut [Sums; STRIP], first: bool) {
    let length = group.length;
    let (steps, _) = group.steps.as_chunks::<T>();
    let stretches = steps.chunks(STEPS / T);
    let last = stretches.len().saturating_sub(1);
    for (index, steps) in stretches.enumerate() {
        let start = index * (STEPS / T) * STEP;
        let end = (start + steps.len() * STEP).min(length);
        let ahead = match (first, index == last) {
            (false, _) => None,
            (true, _) if last == 0 => Some(AHEAD),
            (true, false) => Some(end - start),
            // The first stretch of the next strip.
            (true, true) => Some(weights.len() - start),
        };
        for (row, sums) in weights.chunks_exact(length).zip(sums.iter_mut()) {
            let lanes = products(&row[start..end], steps, ahead);
            let mut padded = [Lanes::zero(); GROUP];
            padded[..T].copy_from_slice(&lanes);
            add_totals(padded, sums);
        }
    }
}

/// Int32 partial sums of one column.
#[derive(Clone, Copy)]
struct Lanes {
    high: __m256i,
    low: __m256i,
}

impl Lanes {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn zero() -> Self {
        Self { high: _mm256_setzero_si256(), low: _mm256_setzero_si256() }
    }
}

/// A stretch of one row with T columns.
#[target_feature(enable = "avx2")]
#[inline]
fn products<const T: usize>(row: &[i8], steps: &[[Step; T]], ahead: Option<usize>) -> [Lanes; T] {
    let mut lanes = [Lanes::zero(); T];
    let (blocks, tail) = row.as_chunks::<STEP>();
    for (block, step) in blocks.iter().zip(steps) {
        if let Some(ahead) = ahead {
            _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(ahead));
        }
        add_step(&mut lanes, block, step);
    }
    if let (false, Some(step)) = (tail.is_empty(), steps.get(blocks.len())) {
        let mut block = [0; STEP];
        block[..tail.len()].copy_from_slice(tail);
        add_step(&mut lanes, &block, step);
    }
    lanes
}

#[target_feature(enable = "avx2")]
#[inline]
fn add_step<const T: usize>(lanes: &mut [Lanes; T], weights: &[i8; STEP], step: &[Step; T]) {
    let (weights, _) = weights.as_chunks::<PART>();
    for part in 0..PARTS {
        // SAFETY: sixteen bytes are read from an array of sixteen.
        let w = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(weights[part].as_ptr().cast()) });
        for (lanes, step) in lanes.iter_mut().zip(step) {
            let Part { high, low } = &step[part];
            add(&mut lanes.high, _mm256_madd_epi16(w, load(high)));
            add(&mut lanes.low, _mm256_madd_epi16(w, load(low)));
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(limbs: &[i16; PART]) -> __m256i {
    // SAFETY: sixteen int16 are read from an array of sixteen.
    unsafe { _mm256_loadu_si256(limbs.as_ptr().cast()) }
}

/// Adds to int32 lanes. The compiler, when it sees through it, adds up the products of several parts first and then has
/// too few registers to keep them in.
#[target_feature(enable = "avx2")]
#[inline]
fn add(sum: &mut __m256i, products: __m256i) {
    // SAFETY: AVX2 is there, as for every caller, and nothing but the named registers is touched.
    unsafe {
        asm!(
            "vpaddd {sum}, {sum}, {products}",
            products = in(ymm_reg) products,
            sum = inout(ymm_reg) *sum,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// Adds up the lanes of four columns.
#[target_feature(enable = "avx2")]
#[inline]
fn add_totals(lanes: [Lanes; GROUP], sums: &mut Sums) {
    // A pair of limbs fits in 64 bits, in whichever lane it is: 2¹⁵ · 2³² + 2³².
    let wide = |lanes| {
        let (low, high) = (_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
        _mm256_add_epi64(_mm256_cvtepi32_epi64(low), _mm256_cvtepi32_epi64(high))
    };
    let one = |lanes: Lanes| {
        let high = _mm256_slli_epi64::<{ LOW_BITS as i32 }>(wide(lanes.high));
        _mm256_add_epi64(high, wide(lanes.low))
    };
    let pair = |a, b| _mm256_add_epi64(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let [a, b, c, d] = lanes;
    let (ab, cd) = (pair(one(a), one(b)), pair(one(c), one(d)));
    // Each 128-bit half holds partial sums of two columns.
    let totals = _mm256_add_epi64(
        _mm256_permute2x128_si256::<0x20>(ab, cd),
        _mm256_permute2x128_si256::<0x31>(ab, cd),
    );
    // SAFETY: four int64 are read from an array of four and written to it.
    unsafe {
        let at = sums.as_mut_ptr().cast();
        _mm256_storeu_si256(at, _mm256_add_epi64(_mm256_loadu_si256(at), totals));
    }
}
