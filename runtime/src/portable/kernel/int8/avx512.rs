//! AVX-512 VNNI: digits against weights as they lie, with `vpdpbusd`.
//!
//! The instruction multiplies unsigned by signed bytes, so weights become `w + 128` by flipping their top bit, and
//! 128 · Σ digits is taken off at the end.
#![allow(unsafe_code, clippy::wildcard_imports)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::digits::{BLOCK, Block, DENSE, Group};
use super::{GROUP, Sums};

/// Registers whose lanes are summed together.
const TOGETHER: usize = 16;

/// Bytes between the weights that are multiplied and those that are asked for.
const AHEAD: usize = 8192;

/// The sums of every row of `weights` with the group's columns. Only on machines with AVX-512 VNNI.
pub(super) fn multiply(group: Group<'_>, weights: &[i8], sums: &mut [Sums]) {
    // SAFETY: the caller holds an `Isa` that was detected to include these features.
    unsafe {
        match group.corrections.len() {
            1 => sweep::<1, 4>(group, weights, sums),
            2 => sweep::<2, 2>(group, weights, sums),
            3 => sweep::<3, 1>(group, weights, sums),
            _ => sweep::<GROUP, 1>(group, weights, sums),
        }
    }
}

/// One register of partial sums per digit, lowest first.
type Lanes = [__m512i; 4];

/// Blocks of T columns' dense digits that the first-level cache holds beside the weights that stream through it: three
/// quarters of 48 KiB.
const fn cached_blocks(columns: usize) -> usize {
    192 / columns
}

/// T columns; R rows, one after the other, fill the registers that are summed together. Columns whose digits the cache
/// does not hold are taken in parts.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn sweep<const T: usize, const R: usize>(group: Group<'_>, weights: &[i8], sums: &mut [Sums]) {
    let blocks = group.length.div_ceil(BLOCK);
    let parts = blocks.div_ceil(cached_blocks(T)).max(1);
    let size = blocks.div_ceil(parts).max(1);
    for first in (0..blocks).step_by(size) {
        let part = first..(first + size).min(blocks);
        for (rows, sums) in weights.chunks(R * group.length).zip(sums.chunks_mut(R)) {
            let mut lanes = [[[_mm512_setzero_si512(); 4]; T]; R];
            for (row, lanes) in rows.chunks_exact(group.length).zip(&mut lanes) {
                *lanes = products(group, part.clone(), row);
            }
            let mut flat = [_mm512_setzero_si512(); TOGETHER];
            for (flat, lanes) in flat.chunks_exact_mut(4).zip(lanes.as_flattened()) {
                flat.copy_from_slice(lanes);
            }
            let totals = totals(&flat);
            let (totals, _) = totals.as_chunks::<4>();
            for (totals, sums) in totals.chunks(T).zip(sums) {
                for ((totals, correction), sum) in totals.iter().zip(group.corrections).zip(sums) {
                    let correction = if first == 0 { *correction } else { [0; 4] };
                    // No lane overflowed: 65536 · 255 · 128 < 2³¹.
                    let digit = |d: usize| i64::from(totals[d]) + i64::from(correction[d]);
                    *sum += digit(0) + (digit(1) << 8) + (digit(2) << 16) + (digit(3) << 24);
                }
            }
        }
    }
}

/// One row with the blocks of one part.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn products<const T: usize>(group: Group<'_>, part: Range<usize>, row: &[i8]) -> [Lanes; T] {
    let (dense, _) = group.dense.as_chunks::<T>();
    let (blocks, tail) = row.as_chunks::<BLOCK>();
    let whole = part.start..part.end.min(blocks.len());
    let (own, digits) = (&blocks[whole.clone()], &dense[whole]);
    let mut lanes = if T == 1 { split::<T, 4>(own, digits) } else { split::<T, 1>(own, digits) };
    let mut last = Block([0; BLOCK]);
    if part.end > blocks.len() {
        last.0[..tail.len()].copy_from_slice(tail);
        let w = flip(&last.0);
        for (lanes, digits) in lanes.iter_mut().zip(&dense[blocks.len()]) {
            add(lanes, w, digits);
        }
    }
    for (lanes, lowest) in lanes.iter_mut().zip(group.lowest) {
        let used = lowest.used.iter().map(|&block| block as usize);
        for block in used.skip_while(|block| *block < part.start).take_while(|block| *block < part.end) {
            let w = flip(blocks.get(block).unwrap_or(&last.0));
            lanes[0] = _mm512_dpbusd_epi32(lanes[0], w, load(&lowest.blocks[block]));
        }
    }
    lanes
}

/// The dense digits of whole blocks. U sets of registers take turns, where T columns alone would wait for each other's
/// latency.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn split<const T: usize, const U: usize>(
    blocks: &[[i8; BLOCK]],
    dense: &[[[Block; DENSE]; T]],
) -> [Lanes; T] {
    let mut lanes = [[[_mm512_setzero_si512(); 4]; T]; U];
    let (turns, rest) = blocks.as_chunks::<U>();
    let (turns_dense, rest_dense) = dense.as_chunks::<U>();
    for (blocks, dense) in turns.iter().zip(turns_dense) {
        for u in 0..U {
            _mm_prefetch::<_MM_HINT_T0>(blocks[u].as_ptr().wrapping_add(AHEAD));
            let w = flip(&blocks[u]);
            for t in 0..T {
                add(&mut lanes[u][t], w, &dense[u][t]);
            }
        }
    }
    for (block, dense) in rest.iter().zip(rest_dense) {
        let w = flip(block);
        for t in 0..T {
            add(&mut lanes[0][t], w, &dense[t]);
        }
    }
    let mut sum = lanes[0];
    for other in &lanes[1..] {
        for t in 0..T {
            for digit in 1..4 {
                sum[t][digit] = _mm512_add_epi32(sum[t][digit], other[t][digit]);
            }
        }
    }
    sum
}

#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn add(lanes: &mut Lanes, w: __m512i, digits: &[Block; DENSE]) {
    lanes[1] = _mm512_dpbusd_epi32(lanes[1], w, load(&digits[0]));
    lanes[2] = _mm512_dpbusd_epi32(lanes[2], w, load(&digits[1]));
    lanes[3] = _mm512_dpbusd_epi32(lanes[3], w, load(&digits[2]));
}

/// The sum of each register's sixteen int32.
#[target_feature(enable = "avx512f")]
#[inline]
fn totals(v: &[__m512i; TOGETHER]) -> [i32; TOGETHER] {
    // Each round halves the registers: pairs are interleaved and added, so that lanes of one source stay together.
    let pairs: [__m512i; 8] = std::array::from_fn(|i| {
        let (a, b) = (v[2 * i], v[2 * i + 1]);
        _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
    });
    let quads: [__m512i; 4] = std::array::from_fn(|i| {
        let (a, b) = (pairs[2 * i], pairs[2 * i + 1]);
        _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
    });
    // Now every 128-bit part of quads[i] holds partial sums of sources 4i to 4i + 3.
    let halves = |a, b| {
        let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
        _mm512_add_epi32(even, _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b))
    };
    let all = halves(halves(quads[0], quads[1]), halves(quads[2], quads[3]));
    let mut totals = [0; TOGETHER];
    // SAFETY: sixteen int32 are written to an array of sixteen.
    unsafe { _mm512_storeu_si512(totals.as_mut_ptr().cast(), all) };
    totals
}

/// 64 weights as unsigned bytes w + 128.
#[target_feature(enable = "avx512f")]
#[inline]
fn flip(weights: &[i8; BLOCK]) -> __m512i {
    // SAFETY: 64 bytes are read from an array of 64.
    let w = unsafe { _mm512_loadu_si512(weights.as_ptr().cast()) };
    _mm512_xor_si512(w, _mm512_set1_epi8(i8::MIN))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(block: &Block) -> __m512i {
    // SAFETY: 64 bytes are read from an array of 64 that is aligned to 64.
    unsafe { _mm512_load_si512(block.0.as_ptr().cast()) }
}
