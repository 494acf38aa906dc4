//! F32, F16 and BF16: numbers stored one by one.

use half::f16;

/// F16 numbers gathered at a time, so that the conversion runs on a whole slice of them.
const CHUNK: usize = 256;

pub(super) fn f32(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.as_chunks::<4>().0.iter().zip(out) {
        *out = f32::from_le_bytes(*bytes);
    }
}

pub(super) fn f16(bytes: &[u8], out: &mut [f32]) {
    let mut halves = [f16::ZERO; CHUNK];
    for (bytes, out) in bytes.chunks(2 * CHUNK).zip(out.chunks_mut(CHUNK)) {
        let Some(halves) = halves.get_mut(..out.len()) else { continue };
        f16_to_f16(bytes, halves);
        super::halves::widen(halves, out);
    }
}

/// BF16 is the upper half of an f32.
pub(super) fn bf16(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.as_chunks::<2>().0.iter().zip(out) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

/// F16 numbers as they are: from f16 to f32 and back is the same number.
pub(crate) fn f16_to_f16(bytes: &[u8], out: &mut [f16]) {
    for (bytes, out) in bytes.as_chunks::<2>().0.iter().zip(out) {
        *out = f16::from_le_bytes(*bytes);
    }
}
