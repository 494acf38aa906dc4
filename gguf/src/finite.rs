//! Finds the weights that no model should have: infinities and NaN.
//!
//! The reader passes them on as they are, since a file may hold them; whoever builds from the weights asks here. A pass
//! over a slice costs about as much as reading it.

use half::f16;

/// Weights looked at before deciding whether to look closer.
const CHUNK: usize = 256;

/// The index of the first weight that is infinite or NaN.
#[must_use]
pub fn first_non_finite_f32(weights: &[f32]) -> Option<usize> {
    first(weights, |w| w.to_bits() & 0x7f80_0000 == 0x7f80_0000)
}

/// The index of the first weight that is infinite or NaN.
#[must_use]
pub fn first_non_finite_f16(weights: &[f16]) -> Option<usize> {
    first(weights, |w| w.to_bits() & 0x7c00 == 0x7c00)
}

/// A whole chunk is asked at once, with no way out between, so that the question runs on vectors.
fn first<T: Copy>(weights: &[T], bad: impl Fn(T) -> bool) -> Option<usize> {
    let (index, chunk) = weights
        .chunks(CHUNK)
        .enumerate()
        .find(|(_, chunk)| chunk.iter().fold(false, |any, &w| any | bad(w)))?;
    let within = chunk.iter().position(|&w| bad(w))?;
    Some(index * CHUNK + within)
}
