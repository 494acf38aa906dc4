//! AVX2: int16 limbs against sign-extended weights with `vpmaddwd`.
#![allow(unsafe_code, clippy::wildcard_imports)]

use std::arch::x86_64::*;

use super::limbs::{Group, LOW_BITS, STEP, Step};
use super::{GROUP, Sums};

/// The sums of every row of `weights` with the group's columns. Only on machines with AVX2.
pub(super) fn multiply(group: Group<'_>, weights: &[i8], sums: &mut [Sums]) {
    // SAFETY: the caller holds an `Isa` that was detected to include AVX2.
    unsafe {
        match group.count {
            1 => sweep::<1>(group, weights, sums),
            2 => sweep::<2>(group, weights, sums),
            3 => sweep::<3>(group, weights, sums),
            _ => sweep::<GROUP>(group, weights, sums),
        }
    }
}

/// Steps after which int32 lanes are emptied: 32 · 4 · 2 · 32752 · 128 < 2³¹.
const STEPS: usize = 32;

/// Elements of one 256-bit register of int16.
const WIDTH: usize = 16;

#[target_feature(enable = "avx2")]
fn sweep<const T: usize>(group: Group<'_>, weights: &[i8], sums: &mut [Sums]) {
    let (steps, _) = group.steps.as_chunks::<T>();
    for (row, sums) in weights.chunks_exact(group.length).zip(sums) {
        let (blocks, tail) = row.as_chunks::<STEP>();
        let (whole, last) = steps.split_at(blocks.len());
        for (blocks, steps) in blocks.chunks(STEPS).zip(whole.chunks(STEPS)) {
            let mut lanes = [Lanes::zero(); T];
            for (block, step) in blocks.iter().zip(steps) {
                add(&mut lanes, block, step);
            }
            flush(&lanes, sums);
        }
        if let [step] = last {
            let mut block = [0; STEP];
            block[..tail.len()].copy_from_slice(tail);
            let mut lanes = [Lanes::zero(); T];
            add(&mut lanes, &block, step);
            flush(&lanes, sums);
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
    fn zero() -> Self {
        Self { high: _mm256_setzero_si256(), low: _mm256_setzero_si256() }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn add<const T: usize>(lanes: &mut [Lanes; T], weights: &[i8; STEP], steps: &[Step; T]) {
    for part in 0..STEP / WIDTH {
        let w = widen(weights, part);
        for (lanes, step) in lanes.iter_mut().zip(steps) {
            lanes.high = _mm256_add_epi32(lanes.high, _mm256_madd_epi16(w, load(&step.high, part)));
            lanes.low = _mm256_add_epi32(lanes.low, _mm256_madd_epi16(w, load(&step.low, part)));
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn widen(weights: &[i8; STEP], part: usize) -> __m256i {
    let (parts, _) = weights.as_chunks::<WIDTH>();
    // SAFETY: sixteen bytes are read from an array of sixteen.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(parts[part].as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(limbs: &[i16; STEP], part: usize) -> __m256i {
    let (parts, _) = limbs.as_chunks::<WIDTH>();
    // SAFETY: sixteen int16 are read from an array of sixteen.
    unsafe { _mm256_loadu_si256(parts[part].as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn flush<const T: usize>(lanes: &[Lanes; T], sums: &mut Sums) {
    for (lanes, sum) in lanes.iter().zip(sums) {
        *sum += (total(lanes.high) << LOW_BITS) + total(lanes.low);
    }
}

#[target_feature(enable = "avx2")]
fn total(lanes: __m256i) -> i64 {
    let mut values = [0i32; 8];
    // SAFETY: eight int32 are written to an array of eight.
    unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), lanes) };
    values.iter().map(|&value| i64::from(value)).sum()
}
