//! Attention with AVX2, FMA and F16C, for heads of whole registers. Sums are in the order of [`super::block`]'s.
#![allow(unsafe_code, clippy::wildcard_imports)]

use std::arch::x86_64::*;

use half::f16;

use super::block::{ABSENT, rows_of};
use super::{BLOCK, Head};
use crate::portable::arith::lanes::LANES;
use crate::portable::kernel::dots::fold_eights;

/// Queries whose sums are kept in registers together: with two keys, or with 32 columns of values, they fill the sixteen.
const GROUP: usize = 3;

/// Blocks of values that sums stay in registers for: few enough for the first-level cache.
const TILE: usize = 8;

/// Elements of one register of fp32.
pub(super) const EIGHT: usize = 8;

/// Scores of every query with every position of `blocks`, before scale and mask: per query, per block, sixteen. Only on machines with
/// AVX2, FMA and F16C.
///
/// # Panics
/// If heads are not of whole registers, or if the slices are not of these lengths.
pub(super) fn scores(head: &Head<'_>, blocks: &[u32], queries: &[f32], scores: &mut [f32]) {
    let (width, length) = (head.width, blocks.len() * BLOCK);
    assert!(width.is_multiple_of(EIGHT) && queries.len().is_multiple_of(width), "a head of {width}");
    assert_eq!(scores.len(), queries.len() / width * length, "scores of all queries with all blocks");
    for (index, &block) in blocks.iter().enumerate() {
        for (pair, keys) in rows_of(head.keys, block, width).chunks(2 * width).enumerate() {
            // The last of an odd number of rows is its own partner.
            let partners = [&keys[..width], &keys[keys.len() - width..]];
            let at = index * BLOCK + 2 * pair;
            for (group, queries) in queries.chunks(GROUP * width).enumerate() {
                // SAFETY: the caller holds an `Isa` that was detected to include these features.
                let sums = unsafe {
                    match queries.len() / width {
                        1 => products::<1>(partners, queries),
                        2 => products::<2>(partners, queries),
                        _ => products::<GROUP>(partners, queries),
                    }
                };
                let count = queries.len() / width;
                for query in 0..count {
                    let row = (group * GROUP + query) * length;
                    scores[row + at] = sums[query];
                    scores[row + at + 1] = if keys.len() == width { ABSENT } else { sums[count + query] };
                }
            }
        }
    }
}

/// The products of two keys with `Q` queries: all of the first, then all of the second.
#[target_feature(enable = "avx2,fma,f16c")]
fn products<const Q: usize>(keys: [&[f16]; 2], queries: &[f32]) -> [f32; 8] {
    let width = keys[0].len();
    assert!(keys[1].len() == width && queries.len() == Q * width && width.is_multiple_of(EIGHT));
    let mut sums = [[[_mm256_setzero_ps(); 2]; Q]; 2];
    let mut add = |at: usize, half: usize| {
        // SAFETY: `at` and the seven behind it are below the width, to which both keys and each query are long.
        unsafe {
            let first = _mm256_cvtph_ps(_mm_loadu_si128(keys[0].as_ptr().add(at).cast()));
            let second = _mm256_cvtph_ps(_mm_loadu_si128(keys[1].as_ptr().add(at).cast()));
            for query in 0..Q {
                let x = _mm256_loadu_ps(queries.as_ptr().add(query * width + at));
                sums[0][query][half] = _mm256_fmadd_ps(first, x, sums[0][query][half]);
                sums[1][query][half] = _mm256_fmadd_ps(second, x, sums[1][query][half]);
            }
        }
    };
    let whole = width / LANES * LANES;
    for lanes in (0..whole).step_by(LANES) {
        add(lanes, 0);
        add(lanes + EIGHT, 1);
    }
    // Lanes that a head's last register leaves out stay as they are.
    if whole < width {
        add(whole, 0);
    }
    let mut eights = [_mm256_setzero_ps(); 8];
    for (key, sums) in sums.iter().enumerate() {
        for (query, [low, high]) in sums.iter().enumerate() {
            eights[key * Q + query] = _mm256_add_ps(*low, *high);
        }
    }
    let [a, b, c, d, e, f, g, h] = eights;
    let mut products = [0.0; 8];
    products[..4].copy_from_slice(&fold_eights([a, b, c, d]));
    if 2 * Q > 4 {
        products[4..].copy_from_slice(&fold_eights([e, f, g, h]));
    }
    products
}

/// Rounds one query's scores, scales them and rounds, adds `mask` `[context]` and rounds; gives the largest, NaN if one is. Only on
/// machines with AVX2, FMA and F16C.
pub(super) fn finish(scores: &mut [f32], blocks: &[u32], scale: Option<f16>, mask: &[f16]) -> f32 {
    // SAFETY: the caller holds an `Isa` that was detected to include these features.
    unsafe { finish_features(scores, blocks, scale.map(f16::to_f32), mask) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn finish_features(scores: &mut [f32], blocks: &[u32], scale: Option<f32>, mask: &[f16]) -> f32 {
    let mut largest = _mm256_set1_ps(f32::NEG_INFINITY);
    let mut nan = _mm256_setzero_ps();
    for (scores, &block) in scores.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks) {
        let start = block as usize * BLOCK;
        let mut part = [f16::ZERO; BLOCK];
        // A position that is not there has a score of −∞, to which adding zero changes nothing.
        let present = mask.len().saturating_sub(start).min(BLOCK);
        part[..present].copy_from_slice(&mask[start..start + present]);
        let (masks, _) = part.as_chunks::<EIGHT>();
        for (scores, mask) in scores.as_chunks_mut::<EIGHT>().0.iter_mut().zip(masks) {
            // SAFETY: eight fp32 are read from and written to an array of eight, eight fp16 read from an array of eight.
            unsafe {
                let mut score = to_half(_mm256_loadu_ps(scores.as_ptr()));
                if let Some(scale) = scale {
                    score = to_half(_mm256_mul_ps(score, _mm256_set1_ps(scale)));
                }
                let mask = _mm256_cvtph_ps(_mm_loadu_si128(mask.as_ptr().cast()));
                score = to_half(_mm256_add_ps(score, mask));
                nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(score, score));
                largest = _mm256_max_ps(largest, score);
                _mm256_storeu_ps(scores.as_mut_ptr(), score);
            }
        }
    }
    if _mm256_movemask_ps(nan) != 0 {
        return f32::NAN;
    }
    let mut lanes = [0f32; EIGHT];
    // SAFETY: eight fp32 are written to an array of eight.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), largest) };
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Rounds to fp16 and widens again; NaN stays one.
#[target_feature(enable = "avx2,f16c")]
fn to_half(values: __m256) -> __m256 {
    _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values))
}

/// Rounds a whole number of blocks to fp16 and widens them again. Only on machines with AVX2, FMA and F16C.
pub(super) fn round(values: &mut [f32]) {
    // SAFETY: the caller holds an `Isa` that was detected to include these features.
    unsafe { round_features(values) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn round_features(values: &mut [f32]) {
    for values in values.as_chunks_mut::<EIGHT>().0 {
        // SAFETY: eight fp32 are read from and written to an array of eight.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), to_half(_mm256_loadu_ps(values.as_ptr()))) };
    }
}

/// Sums of the values by `weights` (per query, per block, sixteen) into `sums`: per query, per lane, the width. Only on machines with
/// AVX2, FMA and F16C.
///
/// # Panics
/// If heads are not of whole registers, or if the slices are not of these lengths.
pub(super) fn combine(head: &Head<'_>, blocks: &[u32], weights: &[f32], sums: &mut [f32]) {
    let (width, length) = (head.width, blocks.len() * BLOCK);
    let count = sums.len() / (LANES * width);
    assert!(width.is_multiple_of(EIGHT) && sums.len() == count * LANES * width, "a head of {width}");
    assert_eq!(weights.len(), count * length, "weights of all queries for all blocks");
    if blocks.is_empty() {
        sums.fill(0.0);
    }
    for (number, blocks) in blocks.chunks(TILE).enumerate() {
        let groups = weights.chunks(GROUP * length).zip(sums.chunks_mut(GROUP * LANES * width));
        for (weights, sums) in groups {
            let weights = &weights[number * TILE * BLOCK..];
            let tile =
                Tile { blocks, fresh: number == 0, values: head.values.elements, width, weights, length };
            // SAFETY: the caller holds an `Isa` that was detected to include these features.
            unsafe {
                match sums.len() / (LANES * width) {
                    1 => tile.add::<1>(sums),
                    2 => tile.add::<2>(sums),
                    _ => tile.add::<GROUP>(sums),
                }
            }
        }
    }
}

/// Some blocks of values with the weights of some queries.
struct Tile<'a> {
    blocks: &'a [u32],
    /// Whether sums begin here.
    fresh: bool,
    /// `[context, width]`.
    values: &'a [f16],
    width: usize,
    /// Those of the first query from the first block on; the next query's are `length` further on.
    weights: &'a [f32],
    length: usize,
}

impl Tile<'_> {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn add<const Q: usize>(&self, sums: &mut [f32]) {
        assert!(sums.len() == Q * LANES * self.width);
        assert!(self.weights.len() >= (Q - 1) * self.length + self.blocks.len() * BLOCK);
        for lane in 0..LANES {
            let mut column = 0;
            while column + 4 * EIGHT <= self.width {
                self.columns::<Q, 4>(lane, column, sums);
                column += 4 * EIGHT;
            }
            if column + 2 * EIGHT <= self.width {
                self.columns::<Q, 2>(lane, column, sums);
                column += 2 * EIGHT;
            }
            if column < self.width {
                self.columns::<Q, 1>(lane, column, sums);
            }
        }
    }

    /// Adds the rows of one lane to the sums of `8 · C` columns.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn columns<const Q: usize, const C: usize>(&self, lane: usize, column: usize, sums: &mut [f32]) {
        let Self { blocks, fresh, values, width, weights, length } = *self;
        let place = |query: usize, c: usize| (query * LANES + lane) * width + column + EIGHT * c;
        let mut registers = [[_mm256_setzero_ps(); C]; Q];
        if !fresh {
            for (query, registers) in registers.iter_mut().enumerate() {
                for (c, register) in registers.iter_mut().enumerate() {
                    // SAFETY: `add` asserted that sums are [Q, lanes, width], and these eight columns are below the width.
                    *register = unsafe { _mm256_loadu_ps(sums.as_ptr().add(place(query, c))) };
                }
            }
        }
        for (index, &block) in blocks.iter().enumerate() {
            let start = (block as usize * BLOCK + lane) * width + column;
            // A position that is not there has no weight.
            if start + EIGHT * C > values.len() {
                continue;
            }
            let mut factors = [_mm256_setzero_ps(); Q];
            for (query, factor) in factors.iter_mut().enumerate() {
                // SAFETY: `add` asserted that the last query has weights for all of these blocks.
                *factor =
                    _mm256_set1_ps(unsafe { *weights.get_unchecked(query * length + index * BLOCK + lane) });
            }
            for c in 0..C {
                // SAFETY: it was compared above that the values have these eight.
                let value = unsafe {
                    _mm256_cvtph_ps(_mm_loadu_si128(values.as_ptr().add(start + EIGHT * c).cast()))
                };
                for query in 0..Q {
                    registers[query][c] = _mm256_fmadd_ps(factors[query], value, registers[query][c]);
                }
            }
        }
        for (query, registers) in registers.iter().enumerate() {
            for (c, register) in registers.iter().enumerate() {
                // SAFETY: as for reading them.
                unsafe { _mm256_storeu_ps(sums.as_mut_ptr().add(place(query, c)), *register) };
            }
        }
    }
}
