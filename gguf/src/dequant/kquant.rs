//! Q2_K to Q6_K: 256 weights to a block, in groups of 16 or 32 that have small integer scales of their own.

use super::scale;

/// 16 × (scale, minimum) of 4 bits each, 256 × 2 bits, `d` f16, `dmin` f16: `(d · sc) · q − (dmin · m)`, by groups of
/// 16.
#[inline(always)]
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let [scales @ .., d0, d1, m0, m1] = block;
    let (d, dmin) = (scale(*d0, *d1), scale(*m0, *m1));
    let (scales, quants) = split::<16, 64, _>(scales);
    for (i, (out, &pair)) in out.as_chunks_mut::<16>().0.iter_mut().zip(scales).enumerate() {
        let (dl, ml) = (d * f32::from(pair & 15), dmin * f32::from(pair >> 4));
        let (bytes, shift) = two_bit_group(quants, i);
        for (out, &byte) in out.iter_mut().zip(bytes) {
            *out = dl * f32::from(byte >> shift & 3) - ml;
        }
    }
}

/// 256 top bits, 256 × 2 bits, 16 scales of 6 bits, `d` f16: `(d · (sc − 32)) · q`, by groups of 16, where a top bit
/// that is clear takes 4 from `q`.
#[inline(always)]
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let [body @ .., d0, d1] = block;
    let d = scale(*d0, *d1);
    let (top, rest) = split::<32, 76, _>(body);
    let (quants, scales) = split::<64, 12, _>(rest);
    let scales = six_bit_scales(scales);
    for (i, (out, &sc)) in out.as_chunks_mut::<16>().0.iter_mut().zip(&scales).enumerate() {
        let dl = d * f32::from(sc as i8 - 32);
        let (bytes, shift) = two_bit_group(quants, i);
        let (tops, bit) = (&top.as_chunks::<16>().0[i % 2], i / 2);
        for ((out, &byte), &top) in out.iter_mut().zip(bytes).zip(tops) {
            let q = (byte >> shift & 3) as i8 - (4 - ((top >> bit & 1) << 2)) as i8;
            *out = dl * f32::from(q);
        }
    }
}

/// `d` f16, `dmin` f16, 8 × (scale, minimum) of 6 bits each, 256 × 4 bits: `(d · sc) · q − (dmin · m)`, by groups of
/// 32.
#[inline(always)]
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let [d0, d1, m0, m1, body @ ..] = block;
    let (d, dmin) = (scale(*d0, *d1), scale(*m0, *m1));
    let (scales, quants) = split::<12, 128, _>(body);
    let (scales, mins) = scales_and_mins(scales);
    for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (dl, ml) = (d * f32::from(scales[i]), dmin * f32::from(mins[i]));
        let (bytes, shift) = (&quants.as_chunks::<32>().0[i / 2], i % 2 * 4);
        for (out, &byte) in out.iter_mut().zip(bytes) {
            *out = dl * f32::from(byte >> shift & 15) - ml;
        }
    }
}

/// As [`q4_k`], with 256 fifth bits before the 4-bit quants.
#[inline(always)]
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let [d0, d1, m0, m1, body @ ..] = block;
    let (d, dmin) = (scale(*d0, *d1), scale(*m0, *m1));
    let (scales, rest) = split::<12, 160, _>(body);
    let (tops, quants) = split::<32, 128, _>(rest);
    let (scales, mins) = scales_and_mins(scales);
    for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (dl, ml) = (d * f32::from(scales[i]), dmin * f32::from(mins[i]));
        let (bytes, shift) = (&quants.as_chunks::<32>().0[i / 2], i % 2 * 4);
        for ((out, &byte), &top) in out.iter_mut().zip(bytes).zip(tops) {
            *out = dl * f32::from(byte >> shift & 15 | (top >> i & 1) << 4) - ml;
        }
    }
}

/// 256 × 4 low bits, 256 × 2 high bits, 16 × i8 scales, `d` f16: `(d · sc) · (q − 32)`, by groups of 16.
#[inline(always)]
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let [body @ .., d0, d1] = block;
    let d = scale(*d0, *d1);
    let (low, rest) = split::<128, 80, _>(body);
    let (high, scales) = split::<64, 16, _>(rest);
    for (i, (out, &sc)) in out.as_chunks_mut::<16>().0.iter_mut().zip(scales).enumerate() {
        let dl = d * f32::from(sc as i8);
        // Each half of the block: 64 bytes of low bits, whose low halves are weights 0 to 63 and high halves 64 to 127.
        let (lows, low_shift) = (&low.as_chunks::<16>().0[i / 8 * 4 + i % 4], i / 4 % 2 * 4);
        let (highs, high_shift) = two_bit_group(high, i);
        for ((out, &low), &high) in out.iter_mut().zip(lows).zip(highs) {
            let q = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
            *out = dl * f32::from(q as i8 - 32);
        }
    }
}

/// The bytes and the shift that hold group `i` (of 16) of 256 two-bit numbers. Each half of the block has 32 bytes,
/// whose lowest bits are its first 32 numbers, the next bits the next 32, and so on.
#[inline(always)]
fn two_bit_group(quants: &[u8; 64], i: usize) -> (&[u8; 16], usize) {
    (&quants.as_chunks::<16>().0[i / 8 * 2 + i % 2], i / 2 % 4 * 2)
}

/// The 16 scales of 6 bits of Q3_K: bytes 0 to 7 hold the low 4 bits of two scales each, bytes 8 to 11 the high 2 bits
/// of four.
#[inline(always)]
fn six_bit_scales(packed: &[u8; 12]) -> [u8; 16] {
    let mut scales = [0; 16];
    for (i, scale) in scales.iter_mut().enumerate() {
        let low = packed[i % 8] >> (i / 8 * 4) & 15;
        let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
        *scale = low | high << 4;
    }
    scales
}

/// The 8 scales and 8 minima of 6 bits of Q4_K and Q5_K. The first four of each are the low 6 bits of bytes 0 to 3 and
/// 4 to 7; the last four have their low 4 bits in bytes 8 to 11, a half each, and their high 2 bits above the first
/// four.
#[inline(always)]
fn scales_and_mins(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for i in 0..4 {
        let (a, b, c) = (packed[i], packed[i + 4], packed[i + 8]);
        (scales[i], mins[i]) = (a & 63, b & 63);
        (scales[i + 4], mins[i + 4]) = (c & 15 | a >> 6 << 4, c >> 4 | b >> 6 << 4);
    }
    (scales, mins)
}

/// The first `A` bytes and the `B` after them.
#[inline(always)]
fn split<const A: usize, const B: usize, const N: usize>(bytes: &[u8; N]) -> (&[u8; A], &[u8; B]) {
    const { assert!(A + B == N) };
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => (first, last),
        _ => unreachable!("both are shorter than the whole"),
    }
}
