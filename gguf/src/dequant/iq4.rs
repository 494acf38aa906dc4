//! IQ4_NL and IQ4_XS: four-bit numbers that stand for 16 unevenly spaced values.

use super::scale;

/// The values that the 16 numbers stand for (`kvalues_iq4nl` of ggml).
const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The same as f32, which holds them exactly.
const WEIGHTS: [f32; 16] = {
    let mut weights = [0.0; 16];
    let mut i = 0;
    while i < 16 {
        weights[i] = VALUES[i] as f32;
        i += 1;
    }
    weights
};

/// `d` f16, 32 × 4 bits: `d · value[q]`.
#[inline(always)]
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let [d0, d1, nibbles @ ..] = block;
    values(scale(*d0, *d1), nibbles, out);
}

/// `d` f16, the high 2 bits of 8 scales, their low 4 bits, 256 × 4 bits: `(d · (sc − 32)) · value[q]`, by groups of 32.
#[inline(always)]
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let [d0, d1, h0, h1, l0, l1, l2, l3, quants @ ..] = block;
    let d = scale(*d0, *d1);
    let (high, low) = (u16::from_le_bytes([*h0, *h1]), u32::from_le_bytes([*l0, *l1, *l2, *l3]));
    let groups = quants.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<32>().0);
    for (i, (nibbles, out)) in groups.enumerate() {
        let sc = (low >> (4 * i) & 15) as i8 | ((high >> (2 * i) & 3) << 4) as i8;
        values(d * f32::from(sc - 32), nibbles, out);
    }
}

/// 32 weights: the low halves of `nibbles` first, then the high ones.
#[inline(always)]
fn values(d: f32, nibbles: &[u8; 16], out: &mut [f32; 32]) {
    let (low, high) = out.split_at_mut(16);
    for ((low, high), &q) in low.iter_mut().zip(high).zip(nibbles) {
        *low = d * WEIGHTS[usize::from(q & 15)];
        *high = d * WEIGHTS[usize::from(q >> 4)];
    }
}
