//! AVX-512 VNNI: digits against weights as they lie, with `vpdpbusd`.
//!
//! The instruction multiplies unsigned by signed bytes, so weights become `w + 128` by flipping their top bit, and
//! 128 · Σ digits is taken off at the end.
//!
//! One column waits for memory, so rows are read as they lie. More columns wait for loads of their digits, so those of two
//! columns, which the first-level cache holds, meet four rows at a time, and a strip of rows is swept once for every pair
//! of columns. As four rows at a time are not how memory likes to be read, each sweep asks for its share of the next strip
//! line by line.
#![allow(unsafe_code, clippy::wildcard_imports)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::digits::{BLOCK, Block, DENSE, Digits, Group};
use super::{GROUP, STRIP, Sums};

/// Columns that are multiplied together.
pub(super) const PAIR: usize = 2;

/// Rows that are multiplied with a pair of columns at a time.
const ROWS: usize = SUMS / PAIR;

/// Sums that are added up together; their dense digits take 24 registers.
const SUMS: usize = 8;

/// Bytes between the weights that one column is multiplied with and those that are asked for.
const AHEAD: usize = 8192;

/// Blocks of a pair's dense digits that the first-level cache holds beside the weights that stream through it: 18 of 32 KiB.
const CACHED: usize = 48;

/// Lanes of partial sums of one digit, row by row and column by column.
type Lanes = [__m512i; SUMS];

/// The sums of every row of a strip of `weights` with as many groups of columns as `sums` has, from group `first` on.
/// Only on machines with AVX-512 VNNI.
pub(super) fn multiply(digits: &Digits, first: usize, weights: &[i8], sums: &mut [[Sums; STRIP]]) {
    if weights.is_empty() {
        return;
    }
    let first = first * GROUP / PAIR;
    let pairs = (digits.groups() - first).min(sums.len() * GROUP / PAIR);
    for pair in 0..pairs {
        let column = pair * PAIR;
        let sums = &mut sums[column / GROUP];
        let out = Out { sums, column: column % GROUP };
        let group = digits.group(first + pair);
        // SAFETY: the caller holds an `Isa` that was detected to include these features.
        unsafe {
            match (group.corrections.len(), pairs) {
                (1, _) => column_sweep(group, weights, pair == 0, out),
                (_, 1) => pair_sweep::<4>(group, weights, pair, out),
                (_, 2 | 3) => pair_sweep::<2>(group, weights, pair, out),
                _ => pair_sweep::<1>(group, weights, pair, out),
            }
        }
    }
}

/// Where the sums of a sweep go: rows of a strip, from one of a group's columns on.
struct Out<'a> {
    sums: &'a mut [Sums; STRIP],
    column: usize,
}

impl Out<'_> {
    /// Adds what the digits of `T` columns come to in rows from `row` on. `totals` have sums of digits 0 to 3, each of the
    /// first row's columns, the next one's, and so on.
    #[target_feature(enable = "avx512f,avx512vl")]
    #[inline]
    fn add<const T: usize>(&mut self, row: usize, totals: [__m256i; 4], correction: __m512i) {
        let [d0, d1, d2, d3] = totals.map(|digits| _mm512_cvtepi32_epi64(digits));
        let upper = _mm512_add_epi64(_mm512_slli_epi64::<8>(d3), d2);
        let lower = _mm512_add_epi64(_mm512_slli_epi64::<8>(d1), d0);
        let sum = _mm512_add_epi64(_mm512_add_epi64(_mm512_slli_epi64::<16>(upper), lower), correction);
        let mut values = [0i64; SUMS];
        // SAFETY: eight int64 are written to an array of eight.
        unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), sum) };
        for (sums, values) in self.sums[row..].iter_mut().zip(values.as_chunks::<T>().0) {
            sums[self.column..].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
    }
}

/// What is taken off a sum because weights are multiplied as `w + 128`, per row and column.
#[target_feature(enable = "avx512f")]
#[inline]
fn correction(group: Group<'_>) -> __m512i {
    let of = |column: usize| {
        let [d0, d1, d2, d3] = group.corrections[column].map(i64::from);
        d0 + (d1 << 8) + (d2 << 16) + (d3 << 24)
    };
    let (even, odd) = (of(0), of(group.corrections.len() - 1));
    _mm512_setr_epi64(even, odd, even, odd, even, odd, even, odd)
}

/// One column, rows one after the other. The `first` to read the strip asks for what comes after.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn column_sweep(group: Group<'_>, weights: &[i8], first: bool, mut out: Out<'_>) {
    let blocks = 0..group.length.div_ceil(BLOCK);
    let correction = correction(group);
    for (index, rows) in weights.chunks(SUMS * group.length).enumerate() {
        let mut dense = [[_mm512_setzero_si512(); SUMS]; DENSE];
        for (place, row) in rows.chunks_exact(group.length).enumerate() {
            let lanes = if first { line::<true>(group, row) } else { line::<false>(group, row) };
            for (dense, lanes) in dense.iter_mut().zip(lanes) {
                dense[place] = lanes;
            }
        }
        let lowest = lowest::<1, SUMS>(group, blocks.clone(), &rows_of(rows, group.length));
        let [d1, d2, d3] = dense.map(|lanes| totals(&lanes));
        out.add::<1>(index * SUMS, [lowest, d1, d2, d3], correction);
    }
}

/// The dense digits of one column with one row. Two sets of registers take turns, as one alone would wait for its latency.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn line<const ASK: bool>(group: Group<'_>, row: &[i8]) -> [__m512i; DENSE] {
    let mut lanes = [[_mm512_setzero_si512(); DENSE]; 2];
    let (twos, _) = row.as_chunks::<{ 2 * BLOCK }>();
    let (dense, _) = group.dense.as_chunks::<2>();
    for (blocks, digits) in twos.iter().zip(dense) {
        for ((block, digits), lanes) in blocks.as_chunks().0.iter().zip(digits).zip(&mut lanes) {
            if ASK {
                _mm_prefetch::<_MM_HINT_T1>(block.as_ptr().wrapping_add(AHEAD));
            }
            add_one(lanes, flip(load(block)), digits);
        }
    }
    for (index, digits) in group.dense.iter().enumerate().skip(2 * twos.len()) {
        add_one(&mut lanes[0], block(row, index), digits);
    }
    let [even, odd] = lanes;
    std::array::from_fn(|digit| _mm512_add_epi32(even[digit], odd[digit]))
}

#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn add_one(lanes: &mut [__m512i; DENSE], weights: __m512i, digits: &[Block; DENSE]) {
    for (lanes, digits) in lanes.iter_mut().zip(digits) {
        *lanes = _mm512_dpbusd_epi32(*lanes, weights, load(&digits.0));
    }
}

/// Two columns, four rows at a time. Columns whose digits the cache does not hold are taken in parts. Asks for `LINES` of
/// every four lines of the next strip, in its `turn`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn pair_sweep<const LINES: usize>(group: Group<'_>, weights: &[i8], turn: usize, mut out: Out<'_>) {
    let blocks = group.length.div_ceil(BLOCK);
    let size = blocks.div_ceil(blocks.div_ceil(CACHED).max(1)).max(1);
    // Later turns ask for lines that are there by then.
    let asked = (turn * LINES).min(4 - LINES) * weights.len() / 4;
    let mut ahead = weights.as_ptr().wrapping_add(weights.len() + asked);
    for first in (0..blocks).step_by(size) {
        let part = first..(first + size).min(blocks);
        let correction = if first == 0 { correction(group) } else { _mm512_setzero_si512() };
        for (index, rows) in weights.chunks(ROWS * group.length).enumerate() {
            let rows = rows_of(rows, group.length);
            let dense = tile::<LINES>(group, part.clone(), &rows, &mut ahead);
            let lowest = lowest::<PAIR, ROWS>(group, part.clone(), &rows);
            let [d1, d2, d3] = dense.map(|lanes| totals(&lanes));
            out.add::<PAIR>(index * ROWS, [lowest, d1, d2, d3], correction);
        }
    }
}

/// The dense digits of two columns with four rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn tile<const LINES: usize>(
    group: Group<'_>,
    part: Range<usize>,
    rows: &[&[i8]; ROWS],
    ahead: &mut *const i8,
) -> [Lanes; DENSE] {
    let mut lanes = [[_mm512_setzero_si512(); SUMS]; DENSE];
    let (dense, _) = group.dense.as_chunks::<PAIR>();
    let end = group.length / BLOCK;
    let whole = part.start..part.end.min(end);
    let dense_whole = &dense[whole.clone()];
    let own = rows.map(|row| &row.as_chunks::<BLOCK>().0[whole.clone()][..dense_whole.len()]);
    for (index, digits) in dense_whole.iter().enumerate() {
        for _ in 0..LINES {
            _mm_prefetch::<_MM_HINT_T1>(*ahead);
            *ahead = ahead.wrapping_add(BLOCK);
        }
        add_four(&mut lanes, own.map(|blocks| flip(load(&blocks[index]))), digits);
    }
    if part.end > end {
        add_four(&mut lanes, rows.map(|row| block(row, end)), &dense[end]);
    }
    lanes
}

#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn add_four(lanes: &mut [Lanes; DENSE], weights: [__m512i; ROWS], digits: &[[Block; DENSE]; PAIR]) {
    for column in 0..PAIR {
        for digit in 0..DENSE {
            let digits = load(&digits[column][digit].0);
            for row in 0..ROWS {
                let lanes = &mut lanes[digit][row * PAIR + column];
                *lanes = _mm512_dpbusd_epi32(*lanes, weights[row], digits);
            }
        }
    }
}

/// The sums of the lowest digits of T columns with R rows, from those blocks of `part` that have any.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn lowest<const T: usize, const R: usize>(group: Group<'_>, part: Range<usize>, rows: &[&[i8]; R]) -> __m256i {
    let used: [&[u32]; T] = std::array::from_fn(|column| group.lowest[column].used_in(part.clone()));
    if used.iter().all(|used| used.is_empty()) {
        return _mm256_setzero_si256();
    }
    let mut lanes = [_mm512_setzero_si512(); SUMS];
    for (column, used) in used.into_iter().enumerate() {
        for &index in used {
            let digits = load(&group.lowest[column].blocks[index as usize].0);
            for (row, weights) in rows.iter().enumerate() {
                let lanes = &mut lanes[row * T + column];
                *lanes = _mm512_dpbusd_epi32(*lanes, block(weights, index as usize), digits);
            }
        }
    }
    totals(&lanes)
}

/// As many rows as are multiplied at a time; the last again for those that are missing.
fn rows_of<const R: usize>(weights: &[i8], length: usize) -> [&[i8]; R] {
    let last = weights.len() / length - 1;
    std::array::from_fn(|row| &weights[row.min(last) * length..][..length])
}

/// The sum of each register's sixteen int32. None overflows: 65536 · 255 · 128 < 2³¹.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
fn totals(lanes: &Lanes) -> __m256i {
    // Each round halves the registers: pairs are interleaved and added, so that lanes of one source stay together.
    let pairs: [__m512i; 4] = std::array::from_fn(|i| {
        let (a, b) = (lanes[2 * i], lanes[2 * i + 1]);
        _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
    });
    let [low, high]: [__m512i; 2] = std::array::from_fn(|i| {
        let (a, b) = (pairs[2 * i], pairs[2 * i + 1]);
        _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
    });
    // Every 128-bit part of `low` holds partial sums of sources 0 to 3, of `high` 4 to 7.
    let parts = _mm512_add_epi32(
        _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high),
    );
    let (first, second) = (_mm512_castsi512_si256(parts), _mm512_extracti64x4_epi64::<1>(parts));
    _mm256_add_epi32(
        _mm256_permute2x128_si256::<0x20>(first, second),
        _mm256_permute2x128_si256::<0x31>(first, second),
    )
}

/// A block of a row as [`flip`] gives it; what is beyond the row's end meets digits of zero.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn block(row: &[i8], index: usize) -> __m512i {
    let weights = &row[index * BLOCK..];
    let mask = u64::MAX >> (BLOCK - weights.len().min(BLOCK));
    // SAFETY: as many bytes are read as there are.
    flip(unsafe { _mm512_maskz_loadu_epi8(mask, weights.as_ptr()) })
}

/// 64 weights as unsigned bytes w + 128.
#[target_feature(enable = "avx512f")]
#[inline]
fn flip(weights: __m512i) -> __m512i {
    _mm512_xor_si512(weights, _mm512_set1_epi8(i8::MIN))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &[i8; BLOCK]) -> __m512i {
    // SAFETY: 64 bytes are read from an array of 64.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
