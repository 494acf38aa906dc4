//! AVX2: int16 limbs against sign-extended weights with `vpmaddwd`.
//!
//! From three columns on it is instructions that run out: a multiplication and an addition for sixteen weights, a column
//! and a limb. So a register of weights meets all limbs of its group, which are operands in memory and no loads of their
//! own; and rows are taken in stretches whose limbs the first-level cache holds for a whole strip of rows. With fewer
//! columns memory is what runs out, and rows are read as they lie as far as the cache allows.
#![allow(unsafe_code, clippy::wildcard_imports)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::limbs::{Group, LOW_BITS, Limbs, PART, PARTS, Part, STEP, Step};
use super::{GROUP, STRIP, Sums};

/// Steps of a stretch with `columns` columns: at most 24 of the 32 KiB of a first-level cache in limbs, and few enough for
/// int32 lanes: 64 · 4 · 2 · 32752 · 128 < 2³¹.
const fn stretch(columns: usize) -> usize {
    match columns {
        1 => 64,
        2 => LONG,
        _ => SHORT,
    }
}

/// Steps of a stretch as long as many a row.
const LONG: usize = 48;

/// Steps after which the sum of four lanes still fits in one.
const SHORT: usize = 16;

/// Bytes between the weights that are multiplied and those that are asked for, where rows are read as they lie.
const AHEAD: usize = 1536;

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
    let stretch = stretch(T);
    let stretches = steps.chunks(stretch);
    let last = stretches.len().saturating_sub(1);
    for (index, steps) in stretches.enumerate() {
        let start = index * stretch * STEP;
        let end = (start + steps.len() * STEP).min(length);
        let ahead = match stretch {
            _ if !first => None,
            _ if last == 0 => Some(AHEAD),
            // The next row.
            LONG.. => Some(length),
            // The next stretch, which for the last is the first of the next strip.
            _ if index == last => Some(weights.len() - start),
            _ => Some(end - start),
        };
        for (row, sums) in weights.chunks_exact(length).zip(sums.iter_mut()) {
            let lanes = products(&row[start..end], steps, ahead);
            let mut padded = [Lanes::zero(); GROUP];
            padded[..T].copy_from_slice(&lanes);
            if stretch <= SHORT { add_short_totals(padded, sums) } else { add_totals(padded, sums) }
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
    let one = |lanes: Lanes| join(widen(lanes.high), widen(lanes.low));
    let pair = |a, b| _mm256_add_epi64(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let [a, b, c, d] = lanes;
    let (ab, cd) = (pair(one(a), one(b)), pair(one(c), one(d)));
    // Each 128-bit half holds partial sums of two columns.
    let totals = _mm256_add_epi64(
        _mm256_permute2x128_si256::<0x20>(ab, cd),
        _mm256_permute2x128_si256::<0x31>(ab, cd),
    );
    add_to(sums, totals);
}

/// [`add_totals`] of at most [`SHORT`] steps: lanes are added up by fours before they are widened.
#[target_feature(enable = "avx2")]
#[inline]
fn add_short_totals([a, b, c, d]: [Lanes; GROUP], sums: &mut Sums) {
    let fours = |a, b, c, d| _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let high = fours(a.high, b.high, c.high, d.high);
    let low = fours(a.low, b.low, c.low, d.low);
    add_to(sums, join(widen(high), widen(low)));
}

/// The sums of the lanes of both halves, as int64: a pair of limbs fits, in whichever lane it is, 2¹⁵ · 2³² + 2³².
#[target_feature(enable = "avx2")]
#[inline]
fn widen(lanes: __m256i) -> __m256i {
    let (low, high) = (_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    _mm256_add_epi64(_mm256_cvtepi32_epi64(low), _mm256_cvtepi32_epi64(high))
}

/// What both limbs come to.
#[target_feature(enable = "avx2")]
#[inline]
fn join(high: __m256i, low: __m256i) -> __m256i {
    _mm256_add_epi64(_mm256_slli_epi64::<{ LOW_BITS as i32 }>(high), low)
}

#[target_feature(enable = "avx2")]
#[inline]
fn add_to(sums: &mut Sums, totals: __m256i) {
    // SAFETY: four int64 are read from an array of four and written to it.
    unsafe {
        let at = sums.as_mut_ptr().cast();
        _mm256_storeu_si256(at, _mm256_add_epi64(_mm256_loadu_si256(at), totals));
    }
}
