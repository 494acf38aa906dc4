//! AVX-512 VNNI: digits against weights as they lie, with `vpdpbusd`.
//!
//! The instruction multiplies unsigned by signed bytes, so weights become `w + 128` by flipping their top bit, and
//! 128 · Σ digits is taken off at the end.
//!
//! One column waits for memory, so rows are read as they lie. More columns wait for loads of their digits, so those of two
//! columns, which the first-level cache holds, meet four rows at a time, and a strip of rows is swept once for every pair
//! of columns. As four rows at a time are not how memory likes to be read, each sweep asks for its share of the next strip
//! line by line. What is asked for goes to the second-level cache: the first has no room, and is slower for being asked.
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

/// As many columns as are multiplied for `count`: three cost less with a fourth of zeros than as a pair and one.
pub(super) fn padded(count: usize) -> usize {
    if count == 1 { 1 } else { count.next_multiple_of(PAIR) }
}

/// The sums of every row of a strip of `weights` with as many groups of columns as `sums` has, from group `first` on.
/// `digits` are of a [`padded`] number of columns. Only on machines with AVX-512 VNNI.
pub(super) fn multiply(digits: &Digits, first: usize, weights: &[i8], sums: &mut [[Sums; STRIP]]) {
    if weights.is_empty() {
        return;
    }
    let first = first * GROUP / PAIR;
    let pairs = (digits.groups() - first).min(sums.len() * GROUP / PAIR);
    for pair in 0..pairs {
        let column = pair * PAIR;
        let out = Out { sums: &mut sums[column / GROUP], column: column % GROUP };
        let group = digits.group(first + pair);
        // SAFETY: the caller holds an `Isa` that was detected to include these features.
        unsafe {
            match (group.corrections.len(), pairs) {
                (1, _) => column_sweep(group, weights, out),
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
    /// Adds what the digits of `T` columns come to in rows from `row` on: sums of the lowest digit and of the dense ones,
    /// each of the first row's columns, the next one's, and so on. Rows that the strip does not have get sums that nobody
    /// reads.
    #[target_feature(enable = "avx512f,avx512vl")]
    #[inline]
    fn add<const T: usize>(
        &mut self,
        row: usize,
        lowest: __m256i,
        [d1, d2, d3]: [__m256i; DENSE],
        correction: __m512i,
    ) {
        let wide = |digits| _mm512_cvtepi32_epi64(digits);
        let upper = _mm512_add_epi64(_mm512_slli_epi64::<8>(wide(d3)), wide(d2));
        let lower = _mm512_add_epi64(_mm512_slli_epi64::<8>(wide(d1)), wide(lowest));
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

/// One column, rows one after the other.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn column_sweep(group: Group<'_>, weights: &[i8], mut out: Out<'_>) {
    let blocks = 0..group.length.div_ceil(BLOCK);
    let correction = correction(group);
    for (index, rows) in weights.chunks(SUMS * group.length).enumerate() {
        let mut dense = [[_mm512_setzero_si512(); SUMS]; DENSE];
        for (place, row) in rows.chunks_exact(group.length).enumerate() {
            for (dense, lanes) in dense.iter_mut().zip(line(group, row)) {
                dense[place] = lanes;
            }
        }
        let [d1, d2, d3] = &dense;
        let dense = [totals(d1), totals(d2), totals(d3)];
        let lowest = lowest::<1, SUMS>(group, blocks.clone(), Rows::of(rows, group.length));
        out.add::<1>(index * SUMS, lowest, dense, correction);
    }
}

/// The dense digits of one column with one row. Two sets of registers take turns, as one alone would wait for its latency.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn line(group: Group<'_>, row: &[i8]) -> [__m512i; DENSE] {
    let mut lanes = [[_mm512_setzero_si512(); DENSE]; 2];
    let (twos, _) = row.as_chunks::<{ 2 * BLOCK }>();
    let (dense, _) = group.dense.as_chunks::<2>();
    for (blocks, digits) in twos.iter().zip(dense) {
        for ((block, digits), lanes) in blocks.as_chunks().0.iter().zip(digits).zip(&mut lanes) {
            _mm_prefetch::<_MM_HINT_T1>(block.as_ptr().wrapping_add(AHEAD));
            add_one(lanes, flip(load(block)), digits);
        }
    }
    let row = Rows { rows: [row], length: row.len() };
    for (index, digits) in group.dense.iter().enumerate().skip(2 * twos.len()) {
        add_one(&mut lanes[0], row.block(0, index), digits);
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
            let rows = Rows::of(rows, group.length);
            let [d1, d2, d3] = &tile::<LINES>(group, part.clone(), rows, &mut ahead);
            let dense = [totals(d1), totals(d2), totals(d3)];
            let lowest = lowest::<PAIR, ROWS>(group, part.clone(), rows);
            out.add::<PAIR>(index * ROWS, lowest, dense, correction);
        }
    }
}

/// The dense digits of two columns with four rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn tile<const LINES: usize>(
    group: Group<'_>,
    part: Range<usize>,
    rows: Rows<'_, ROWS>,
    ahead: &mut *const i8,
) -> [Lanes; DENSE] {
    let mut lanes = [[_mm512_setzero_si512(); SUMS]; DENSE];
    let (dense, _) = group.dense.as_chunks::<PAIR>();
    let whole = part.start..part.end.min(rows.length / BLOCK);
    for (index, digits) in whole.clone().zip(&dense[whole]) {
        for _ in 0..LINES {
            _mm_prefetch::<_MM_HINT_T1>(*ahead);
            *ahead = ahead.wrapping_add(BLOCK);
        }
        // SAFETY: only whole blocks are counted.
        let weights = std::array::from_fn(|row| unsafe { rows.whole_block(row, index) });
        add_four(&mut lanes, weights, digits);
    }
    if part.end > rows.length / BLOCK {
        let last = part.end - 1;
        add_four(&mut lanes, std::array::from_fn(|row| rows.block(row, last)), &dense[last]);
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

/// The sums of the lowest digits of T columns with R rows, from the blocks of `part` that have any.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn lowest<const T: usize, const R: usize>(
    group: Group<'_>,
    part: Range<usize>,
    rows: Rows<'_, R>,
) -> __m256i {
    if group.used_in(&part).all(|(_, bits)| bits == 0) {
        return _mm256_setzero_si256();
    }
    let mut lanes = [_mm512_setzero_si512(); SUMS];
    let columns: [&[Block]; T] = std::array::from_fn(|column| &group.lowest[column].blocks[..part.end]);
    for (first, mut bits) in group.used_in(&part) {
        while bits != 0 {
            let index = first + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            let digits: [__m512i; T] = std::array::from_fn(|column| load(&columns[column][index].0));
            for row in 0..R {
                let weights = rows.block(row, index);
                for column in 0..T {
                    let lanes = &mut lanes[row * T + column];
                    *lanes = _mm512_dpbusd_epi32(*lanes, weights, digits[column]);
                }
            }
        }
    }
    totals(&lanes)
}

/// R rows of the same length.
#[derive(Clone, Copy)]
struct Rows<'a, const R: usize> {
    rows: [&'a [i8]; R],
    length: usize,
}

impl<'a, const R: usize> Rows<'a, R> {
    /// The rows of `weights`; the last one again where there are fewer.
    fn of(weights: &'a [i8], length: usize) -> Self {
        let last = weights.len() / length - 1;
        Self { rows: std::array::from_fn(|row| &weights[row.min(last) * length..][..length]), length }
    }

    /// A block of a row as unsigned bytes w + 128; what is beyond the row's end meets digits of zero.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn block(&self, row: usize, index: usize) -> __m512i {
        if index < self.length / BLOCK {
            // SAFETY: as just seen.
            return unsafe { self.whole_block(row, index) };
        }
        let start = index * BLOCK;
        let mask = u64::MAX.unbounded_shr((start + BLOCK).saturating_sub(self.length) as u32);
        // SAFETY: no more bytes are read than the row has from there on; a row that ends before is not read.
        flip(unsafe { _mm512_maskz_loadu_epi8(mask, self.rows[row].as_ptr().wrapping_add(start)) })
    }

    /// [`Rows::block`] of a block that is whole.
    ///
    /// # Safety
    /// `index` is below `length / BLOCK`.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn whole_block(&self, row: usize, index: usize) -> __m512i {
        // SAFETY: each row has `length` bytes, and the caller keeps to the whole blocks of these.
        flip(unsafe { _mm512_loadu_si512(self.rows[row].as_ptr().add(index * BLOCK).cast()) })
    }
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
