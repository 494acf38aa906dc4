//! Scores of heads of a single register with AVX2, FMA and F16C.
//!
//! A dot product of eight elements takes longer to fold than to multiply. So keys are transposed, eight at a time and once for all
//! queries, and their scores come out side by side: a register holds one element of eight keys, which is one lane of their sums.
#![allow(unsafe_code, clippy::wildcard_imports)]

use std::arch::x86_64::*;

use half::f16;

use super::avx2::EIGHT;
use super::block::{ABSENT, rows_of};
use super::{BLOCK, Head};

/// Scores of every query with every position of `blocks`, before scale and mask: per query, per block, sixteen. Only on machines with
/// AVX2, FMA and F16C.
///
/// # Panics
/// If heads are not of eight elements, or if the slices are not of these lengths.
pub(super) fn scores(head: &Head<'_>, blocks: &[u32], queries: &[f32], scores: &mut [f32]) {
    let length = blocks.len() * BLOCK;
    let (queries, rest) = queries.as_chunks();
    assert!(head.width == EIGHT && rest.is_empty(), "a head of {}", head.width);
    assert_eq!(scores.len(), queries.len() * length, "scores of all queries with all blocks");
    for (index, &block) in blocks.iter().enumerate() {
        let (keys, _) = rows_of(head.keys, block, EIGHT).as_chunks();
        for (half, keys) in keys.chunks(EIGHT).enumerate() {
            let mut eight = [[f16::ZERO; EIGHT]; EIGHT];
            eight[..keys.len()].copy_from_slice(keys);
            let scores = &mut scores[index * BLOCK + half * EIGHT..];
            // SAFETY: the caller holds an `Isa` that was detected to include these features.
            unsafe { products(&eight, keys.len(), queries, scores, length) };
        }
    }
}

/// The products of the first `present` of eight keys with each query; a query's are written `length` behind those of the one before.
#[target_feature(enable = "avx2,fma,f16c")]
fn products(
    keys: &[[f16; EIGHT]; EIGHT],
    present: usize,
    queries: &[[f32; EIGHT]],
    scores: &mut [f32],
    length: usize,
) {
    let zero = _mm256_setzero_ps();
    let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let is_present = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(present as i32), places));
    let keys = transpose(keys);
    for (query, scores) in queries.iter().zip(scores.chunks_mut(length)) {
        // From +0, as every lane begins: so none is −0.
        let lane = |index: usize| _mm256_fmadd_ps(keys[index], _mm256_set1_ps(query[index]), zero);
        let pair = |index: usize| _mm256_add_ps(lane(index), lane(index + 4));
        let four = |index: usize| _mm256_add_ps(pair(index), pair(index + 2));
        let sums = _mm256_add_ps(four(0), four(1));
        let sums = _mm256_blendv_ps(_mm256_set1_ps(ABSENT), sums, is_present);
        if let Some(scores) = scores.first_chunk_mut::<EIGHT>() {
            // SAFETY: eight fp32 are written to an array of eight.
            unsafe { _mm256_storeu_ps(scores.as_mut_ptr(), sums) };
        }
    }
}

/// Element by element, those of all keys, widened.
#[target_feature(enable = "avx2,f16c")]
fn transpose(keys: &[[f16; EIGHT]; EIGHT]) -> [__m256; EIGHT] {
    // SAFETY: eight fp16 are read from an array of eight.
    let rows = keys.each_ref().map(|key| unsafe { _mm_loadu_si128(key.as_ptr().cast()) });
    // One round puts elements of keys next to each other that are four apart: after three, all eight are.
    let round = |rows: [__m128i; EIGHT]| {
        let mut next = [_mm_setzero_si128(); EIGHT];
        for index in 0..EIGHT / 2 {
            next[2 * index] = _mm_unpacklo_epi16(rows[index], rows[index + 4]);
            next[2 * index + 1] = _mm_unpackhi_epi16(rows[index], rows[index + 4]);
        }
        next
    };
    round(round(round(rows))).map(|elements| _mm256_cvtph_ps(elements))
}
