//! AVX-VNNI: digits against weights as they lie, with `vpdpbusd` on 256 bits, for machines without AVX-512.
//!
//! As in `avx512.rs`, weights become `w + 128` by flipping their top bit, and 128 · Σ digits is taken off at the end.
//! Everything but the one instruction is AVX2, so tests run the same code with the instruction spelled out.
#![allow(unsafe_code, clippy::wildcard_imports)]

use std::arch::x86_64::*;

use super::digits::{BLOCK, Block};

/// The sums of every row of `weights` with the group's columns. Only on machines with AVX-VNNI.
pub(super) use vnni::multiply;

/// Bytes between the weights that are multiplied and those that are asked for.
const AHEAD: usize = 8192;

/// Registers whose lanes are summed together.
const TOGETHER: usize = 8;

/// One register of partial sums per digit, lowest first.
type Lanes = [__m256i; 4];

/// Blocks of T columns' dense digits that the first-level cache holds beside the weights that stream through it: three
/// quarters of 32 KiB, which the smaller cores have.
const fn cached_blocks(columns: usize) -> usize {
    128 / columns
}

/// The kernel, with one form of the instruction: adds to each int32 of the first operand the products of four unsigned
/// bytes of the second with four signed bytes of the third.
macro_rules! kernel {
    ($name:ident, $features:literal, $dpbusd:path) => {
        pub(super) mod $name {
            use std::arch::x86_64::*;
            use std::ops::Range;

            use super::super::digits::{BLOCK, Block, DENSE, Group};
            use super::super::{GROUP, Sums};
            use super::{AHEAD, Lanes, TOGETHER, cached_blocks, flip, load, totals};

            pub(in super::super) fn multiply(group: Group<'_>, weights: &[i8], sums: &mut [Sums]) {
                // SAFETY: the caller knows that the machine has these features.
                unsafe {
                    match group.corrections.len() {
                        1 => sweep::<1, 4>(group, weights, sums),
                        2 => sweep::<2, 2>(group, weights, sums),
                        3 => sweep::<3, 1>(group, weights, sums),
                        _ => sweep::<GROUP, 1>(group, weights, sums),
                    }
                }
            }

            /// T columns; R rows go one after the other before their lanes are summed. Columns whose digits the cache
            /// does not hold are taken in parts.
            #[target_feature(enable = $features)]
            fn sweep<const T: usize, const R: usize>(group: Group<'_>, weights: &[i8], sums: &mut [Sums]) {
                let blocks = group.length.div_ceil(BLOCK);
                let parts = blocks.div_ceil(cached_blocks(T)).max(1);
                let size = blocks.div_ceil(parts).max(1);
                for first in (0..blocks).step_by(size) {
                    let part = first..(first + size).min(blocks);
                    for (rows, sums) in weights.chunks(R * group.length).zip(sums.chunks_mut(R)) {
                        let mut lanes = [[[_mm256_setzero_si256(); 4]; T]; R];
                        for (row, lanes) in rows.chunks_exact(group.length).zip(&mut lanes) {
                            *lanes = products(group, part.clone(), row);
                        }
                        let mut digits = [[0; 4]; GROUP];
                        let lanes = lanes.as_flattened().chunks(TOGETHER / 4);
                        for (lanes, digits) in lanes.zip(digits.chunks_mut(TOGETHER / 4)) {
                            let mut together = [_mm256_setzero_si256(); TOGETHER];
                            together[..4 * lanes.len()].copy_from_slice(lanes.as_flattened());
                            digits.as_flattened_mut().copy_from_slice(&totals(&together));
                        }
                        for (digits, sums) in digits.chunks(T).zip(sums) {
                            for ((digits, correction), sum) in digits.iter().zip(group.corrections).zip(sums)
                            {
                                let correction = if first == 0 { *correction } else { [0; 4] };
                                // No lane overflowed: 65536 · 255 · 128 < 2³¹.
                                let digit = |d: usize| i64::from(digits[d]) + i64::from(correction[d]);
                                *sum += digit(0) + (digit(1) << 8) + (digit(2) << 16) + (digit(3) << 24);
                            }
                        }
                    }
                }
            }

            /// One row with the blocks of one part.
            #[target_feature(enable = $features)]
            #[inline]
            fn products<const T: usize>(group: Group<'_>, part: Range<usize>, row: &[i8]) -> [Lanes; T] {
                let (dense, _) = group.dense.as_chunks::<T>();
                let (blocks, tail) = row.as_chunks::<BLOCK>();
                let whole = part.start..part.end.min(blocks.len());
                let (own, digits) = (&blocks[whole.clone()], &dense[whole]);
                let mut lanes = match T {
                    1 => split::<T, 2, 4>(own, digits),
                    2 => split::<T, 1, 2>(own, digits),
                    _ => split::<T, 1, 1>(own, digits),
                };
                let mut last = Block([0; BLOCK]);
                if part.end > blocks.len() {
                    last.0[..tail.len()].copy_from_slice(tail);
                    add(&mut lanes, &last.0, 0, &dense[blocks.len()]);
                    add(&mut lanes, &last.0, 1, &dense[blocks.len()]);
                }
                for (lanes, lowest) in lanes.iter_mut().zip(group.lowest) {
                    for &block in lowest.used_in(part.clone()) {
                        let weights = blocks.get(block as usize).unwrap_or(&last.0);
                        let digits = &lowest.blocks[block as usize];
                        lanes[0] = $dpbusd(lanes[0], flip(weights, 0), load(digits, 0));
                        lanes[0] = $dpbusd(lanes[0], flip(weights, 1), load(digits, 1));
                    }
                }
                lanes
            }

            /// The dense digits of whole blocks, B at a time. U sets of registers take turns, where T columns alone would
            /// wait for each other's latency.
            #[target_feature(enable = $features)]
            #[inline]
            fn split<const T: usize, const B: usize, const U: usize>(
                blocks: &[[i8; BLOCK]],
                dense: &[[[Block; DENSE]; T]],
            ) -> [Lanes; T] {
                let mut lanes = [[[_mm256_setzero_si256(); 4]; T]; U];
                let (turns, rest) = blocks.as_chunks::<B>();
                let (turns_dense, rest_dense) = dense.as_chunks::<B>();
                for (blocks, dense) in turns.iter().zip(turns_dense) {
                    for b in 0..B {
                        _mm_prefetch::<_MM_HINT_T0>(blocks[b].as_ptr().wrapping_add(AHEAD));
                        for half in 0..2 {
                            add(&mut lanes[(2 * b + half) % U], &blocks[b], half, &dense[b]);
                        }
                    }
                }
                for (block, dense) in rest.iter().zip(rest_dense) {
                    add(&mut lanes[0], block, 0, dense);
                    add(&mut lanes[1 % U], block, 1, dense);
                }
                let mut sum = lanes[0];
                for other in &lanes[1..] {
                    for t in 0..T {
                        for digit in 1..4 {
                            sum[t][digit] = _mm256_add_epi32(sum[t][digit], other[t][digit]);
                        }
                    }
                }
                sum
            }

            /// Adds the dense digits of half a block.
            #[target_feature(enable = $features)]
            #[inline]
            fn add<const T: usize>(
                lanes: &mut [Lanes; T],
                weights: &[i8; BLOCK],
                half: usize,
                digits: &[[Block; DENSE]; T],
            ) {
                let w = flip(weights, half);
                for t in 0..T {
                    for d in 0..DENSE {
                        lanes[t][d + 1] = $dpbusd(lanes[t][d + 1], w, load(&digits[t][d], half));
                    }
                }
            }
        }
    };
}

kernel!(vnni, "avx2,avxvnni", _mm256_dpbusd_avx_epi32);

// For tests, on machines without AVX-VNNI: the same instruction as AVX-512 encodes it, and what it does in AVX2.
#[cfg(test)]
kernel!(evex, "avx2,avx512vl,avx512vnni", _mm256_dpbusd_epi32);
#[cfg(test)]
kernel!(spelled_out, "avx2", super::dpbusd);
// A fault that tests must notice.
#[cfg(test)]
kernel!(saturating, "avx2", super::dpbusd_saturating);

#[cfg(test)]
#[target_feature(enable = "avx2")]
fn dpbusd(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
    let products = |a, b| _mm256_madd_epi16(_mm256_cvtepu8_epi16(a), _mm256_cvtepi8_epi16(b));
    let low = products(_mm256_castsi256_si128(a), _mm256_castsi256_si128(b));
    let high = products(_mm256_extracti128_si256::<1>(a), _mm256_extracti128_si256::<1>(b));
    // Horizontal additions work on each half: low, high, low, high.
    let fours = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(low, high));
    _mm256_add_epi32(sums, fours)
}

/// What AVX2 has for bytes adds two products in an int16 that saturates.
#[cfg(test)]
#[target_feature(enable = "avx2")]
fn dpbusd_saturating(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)))
}

/// The sum of each register's eight int32.
#[target_feature(enable = "avx2")]
#[inline]
fn totals(v: &[__m256i; TOGETHER]) -> [i32; TOGETHER] {
    // Each round halves the registers: pairs are interleaved and added, so that lanes of one source stay together.
    let pairs = |i: usize| {
        let (a, b) = (v[2 * i], v[2 * i + 1]);
        _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b))
    };
    let quads = |i: usize| {
        let (a, b) = (pairs(2 * i), pairs(2 * i + 1));
        _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
    };
    // Now both halves of the first hold partial sums of sources 0 to 3, those of the second of sources 4 to 7.
    let (a, b) = (quads(0), quads(1));
    let all =
        _mm256_add_epi32(_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b));
    let mut totals = [0; TOGETHER];
    // SAFETY: eight int32 are written to an array of eight.
    unsafe { _mm256_storeu_si256(totals.as_mut_ptr().cast(), all) };
    totals
}

/// Half of 64 weights as unsigned bytes w + 128.
#[target_feature(enable = "avx2")]
#[inline]
fn flip(weights: &[i8; BLOCK], half: usize) -> __m256i {
    let (halves, _) = weights.as_chunks::<{ BLOCK / 2 }>();
    // SAFETY: 32 bytes are read from an array of 32.
    let w = unsafe { _mm256_loadu_si256(halves[half].as_ptr().cast()) };
    _mm256_xor_si256(w, _mm256_set1_epi8(i8::MIN))
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(block: &Block, half: usize) -> __m256i {
    let (halves, _) = block.0.as_chunks::<{ BLOCK / 2 }>();
    // SAFETY: 32 bytes are read from an array of 32; half a block is as aligned as it is long.
    unsafe { _mm256_load_si256(halves[half].as_ptr().cast()) }
}
