//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: 32 weights to a block, with one scale and perhaps one minimum.
//!
//! Of the four-bit halves of a byte, the low ones are weights 0 to 15 and the high ones weights 16 to 31.

use super::scale;

/// `d` f16, 32 × i8: `q · d`.
#[inline(always)]
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let [d0, d1, quants @ ..] = block;
    let d = scale(*d0, *d1);
    for (out, &q) in out.iter_mut().zip(quants) {
        *out = f32::from(q as i8) * d;
    }
}

/// `d` f16, 32 × 4 bits: `d · (q − 8)`.
#[inline(always)]
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let [d0, d1, nibbles @ ..] = block;
    let d = scale(*d0, *d1);
    let (low, high) = out.split_at_mut(16);
    for ((low, high), &q) in low.iter_mut().zip(high).zip(nibbles) {
        *low = d * f32::from((q & 15) as i8 - 8);
        *high = d * f32::from((q >> 4) as i8 - 8);
    }
}

/// `d` f16, `m` f16, 32 × 4 bits: `d · q + m`.
#[inline(always)]
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, nibbles @ ..] = block;
    let (d, m) = (scale(*d0, *d1), scale(*m0, *m1));
    let (low, high) = out.split_at_mut(16);
    for ((low, high), &q) in low.iter_mut().zip(high).zip(nibbles) {
        *low = d * f32::from(q & 15) + m;
        *high = d * f32::from(q >> 4) + m;
    }
}

/// `d` f16, 32 fifth bits, 32 × 4 bits: `d · (q − 16)`.
#[inline(always)]
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let [d0, d1, h0, h1, h2, h3, nibbles @ ..] = block;
    let d = scale(*d0, *d1);
    let quants = five_bits([*h0, *h1, *h2, *h3], nibbles);
    for (out, q) in out.iter_mut().zip(quants) {
        *out = d * f32::from(q as i8 - 16);
    }
}

/// `d` f16, `m` f16, 32 fifth bits, 32 × 4 bits: `d · q + m`.
#[inline(always)]
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, h0, h1, h2, h3, nibbles @ ..] = block;
    let (d, m) = (scale(*d0, *d1), scale(*m0, *m1));
    let quants = five_bits([*h0, *h1, *h2, *h3], nibbles);
    for (out, q) in out.iter_mut().zip(quants) {
        *out = d * f32::from(q) + m;
    }
}

/// 32 five-bit numbers: bit `i` of `high` is the top bit of number `i`.
#[inline(always)]
fn five_bits([a, b, c, d]: [u8; 4], nibbles: &[u8; 16]) -> [u8; 32] {
    let (low, high) = (each_eight_times(a, b), each_eight_times(c, d));
    let mut quants = [0; 32];
    for i in 0..16 {
        // In bytes throughout: wider shifts would make the vectors narrow.
        let bit = 1 << (i % 8);
        let top = |byte: u8| if byte & bit == 0 { 0 } else { 16 };
        quants[i] = nibbles[i] & 15 | top(low[i]);
        quants[i + 16] = nibbles[i] >> 4 | top(high[i]);
    }
    quants
}

#[inline(always)]
fn each_eight_times(a: u8, b: u8) -> [u8; 16] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let [a, b] = [a, b].map(|byte| u128::from(u64::from(byte) * EACH));
    (a | b << 64).to_le_bytes()
}
