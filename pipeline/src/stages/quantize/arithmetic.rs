//! The arithmetic of symmetric int8 weights.
//!
//! A block of weights `w` (one output channel, or a whole tensor) is stored as one fp16 scale `s` and int8 values `q`
//! that stand for `q · s`:
//!
//! - `s` is `max|w| / 127`, rounded to fp16. That is the scale of coremltools' `linear_quantize_weights` (int8,
//!   `linear_symmetric`), bit for bit, except where it would not do:
//!   - a block of zeros has scale 1 (coremltools divides by zero);
//!   - a scale that rounding in fp16's subnormal range (`max|w|` below 127² · 2⁻²⁴ ≈ 0.00096) has made so small that the
//!     largest weight would be clipped is one fp16 step larger (coremltools clips, up to a third of the weight, and
//!     below 127 · 2⁻²⁵ divides by zero);
//!   - a block with `max|w|` above 32752 has a finite scale (coremltools computes `2 · max|w|` in fp16 and overflows).
//! - `q` is `w / s`, with `s` as stored, rounded to fp16 and then to the nearest integer, ties to even both times. That is
//!   what coremltools does. The first rounding moves about one value in a hundred by one step, away from the nearest;
//!   the error grows by a fraction of a percent, and the weights are those of coremltools, byte for byte.
//!
//! So `|w − q · s| ≤ 17/32 · s` for every weight (half a step, and half of fp16's 1/16 between 64 and 128), and `|q| ≤ 127`.

#![allow(clippy::inline_always)] // what is not inlined is compiled for every machine only

use half::f16;

/// The largest magnitude of a quantized value.
pub(super) const LIMIT: f32 = 127.0;

/// Adding and subtracting 1.5 · 2²³ rounds an fp32 value below 2²² to the nearest integer, ties to even: sums of that
/// size have no fractional bits. Written out because it vectorizes on every target.
const ROUNDER: f32 = 12_582_912.0;

/// Bits of an fp32 significand that an fp16 one does not have.
const EXTRA: u32 = 13;

/// Values summed in fp32 lanes before they go to fp64.
const RUN: usize = 256;

/// Lanes of the inner loop; a multiple of every vector width.
const LANES: usize = 16;

/// The largest magnitude in a row of fp16 values. Compares bit patterns, whose order is that of the magnitudes, so an
/// infinity or a NaN comes out as a value that is not finite.
pub(super) fn max_abs(row: &[f16]) -> f16 {
    #[cfg(target_arch = "x86_64")]
    if let Some(largest) = wide::max_abs(row) {
        return largest;
    }
    max_abs_of(row)
}

#[inline(always)]
fn max_abs_of(row: &[f16]) -> f16 {
    // Magnitudes are below 2¹⁵ as bits, and a signed 16-bit maximum exists on every vector unit.
    let bits = row.iter().fold(0_i16, |max, w| max.max((w.to_bits() & 0x7FFF) as i16));
    f16::from_bits(bits as u16)
}

/// The scale of a block whose largest magnitude is `max_abs`, a finite value.
pub(super) fn scale_for(max_abs: f16) -> f16 {
    if max_abs == f16::ZERO {
        return f16::ONE;
    }
    // The quotient of two fp16 values, rounded to fp32 and then to fp16, is the quotient rounded to fp16: 24 bits are at
    // least 2 · 11 + 2.
    let scale = f16::from_f32(max_abs.to_f32() / LIMIT);
    // Up to half a step above 127 the nearest value is 127 itself. Both products are exact in fp32.
    if max_abs.to_f32() > scale.to_f32() * (LIMIT + 0.5) {
        return f16::from_bits(scale.to_bits() + 1);
    }
    scale
}

/// Sums over weights `w` and what they became, `w − e`. Added up in fp64, in the order of the weights.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ErrorSums {
    /// Σ w²
    pub(super) ww: f64,
    /// Σ e²
    pub(super) ee: f64,
    /// Σ w·e
    pub(super) we: f64,
    /// max |e|
    pub(super) max: f32,
}

impl ErrorSums {
    /// Those of one weight and its error.
    pub(super) fn of(w: f32, e: f32) -> Self {
        let (wide, error) = (f64::from(w), f64::from(e));
        Self { ww: wide * wide, ee: error * error, we: wide * error, max: e.abs() }
    }

    /// Appends the sums of what follows.
    pub(super) fn add(&mut self, next: &Self) {
        self.ww += next.ww;
        self.ee += next.ee;
        self.we += next.we;
        self.max = self.max.max(next.max);
    }

    /// √(Σ e² / Σ w²); 0 when nothing is lost of nothing.
    pub(super) fn rms_relative(&self) -> f64 {
        if self.ee == 0.0 { 0.0 } else { (self.ee / self.ww).sqrt() }
    }

    /// The cosine of the angle between the weights and what they became; 1 when both are zero.
    pub(super) fn cosine(&self) -> f64 {
        // With v = w − e: w·v = ww − we and v·v = ww − 2 we + ee. The error is small, so little is lost.
        let dot = self.ww - self.we;
        let after = self.ww - 2.0 * self.we + self.ee;
        if self.ee == 0.0 {
            1.0
        } else if after <= 0.0 {
            0.0
        } else {
            (dot / (self.ww * after).sqrt()).min(1.0)
        }
    }
}

/// The weights `row` as fp32, which holds them exactly.
pub(super) fn widen(row: &[f16], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if wide::widen(row, out) {
        return;
    }
    widen_each(row, out);
}

fn widen_each(row: &[f16], out: &mut [f32]) {
    row.iter().zip(out).for_each(|(weight, out)| *out = weight.to_f32());
}

/// Quantizes weights by `scale`, a positive value, into `q`, of the same length.
pub(super) fn quantize(weights: &[f32], scale: f32, q: &mut [i8]) -> ErrorSums {
    #[cfg(target_arch = "x86_64")]
    if let Some(sums) = wide::quantize(weights, scale, q) {
        return sums;
    }
    quantize_by(weights, scale, q)
}

#[inline(always)]
fn quantize_by(weights: &[f32], scale: f32, q: &mut [i8]) -> ErrorSums {
    let mut sums = ErrorSums::default();
    for (weights, q) in weights.chunks(RUN).zip(q.chunks_mut(RUN)) {
        sums.add(&quantize_run(weights, scale, q));
    }
    sums
}

#[inline(always)]
fn quantize_run(weights: &[f32], scale: f32, q: &mut [i8]) -> ErrorSums {
    let (mut ww, mut ee, mut we, mut max) = ([0_f32; LANES], [0_f32; LANES], [0_f32; LANES], [0_f32; LANES]);
    let (wide, narrow) = weights.as_chunks::<LANES>();
    let (wide_q, narrow_q) = q.as_chunks_mut::<LANES>();
    for (w, q) in wide.iter().zip(wide_q) {
        for i in 0..LANES {
            let (value, error) = quantize_one(w[i], scale);
            q[i] = value;
            ww[i] += w[i] * w[i];
            ee[i] += error * error;
            we[i] += w[i] * error;
            max[i] = max[i].max(error.abs());
        }
    }
    for (i, (w, q)) in narrow.iter().zip(narrow_q).enumerate() {
        let (value, error) = quantize_one(*w, scale);
        *q = value;
        ww[i] += w * w;
        ee[i] += error * error;
        we[i] += w * error;
        max[i] = max[i].max(error.abs());
    }
    let total = |lanes: [f32; LANES]| lanes.iter().map(|&x| f64::from(x)).sum();
    ErrorSums { ww: total(ww), ee: total(ee), we: total(we), max: max.iter().copied().fold(0.0, f32::max) }
}

/// One weight: the value it is stored as, and what is lost.
#[inline(always)]
fn quantize_one(w: f32, scale: f32) -> (i8, f32) {
    let quotient = (w / scale).clamp(-LIMIT, LIMIT);
    let shifted = round_to_fp16(quotient) + ROUNDER;
    // The low bits of the shifted value are the integer itself, in two's complement.
    (shifted.to_bits() as i8, w - (shifted - ROUNDER) * scale)
}

/// Rounds the significand of a finite value to fp16's 11 bits, ties to even. For magnitudes from 2⁻¹⁴ to below 2¹⁵ this
/// is the nearest fp16 value; smaller ones, which fp16 rounds more coarsely, are zero as integers either way. Written on
/// the bits because it vectorizes on every target.
#[inline(always)]
fn round_to_fp16(x: f32) -> f32 {
    let bits = x.to_bits();
    let even = (bits >> EXTRA) & 1;
    f32::from_bits((bits + ((1 << (EXTRA - 1)) - 1) + even) & !((1 << EXTRA) - 1))
}

/// The same loops for wider vectors, where the machine has them. Nothing is fused or reordered, so they give the same bits.
#[cfg(target_arch = "x86_64")]
mod wide {
    #![allow(unsafe_code)] // vector loads and stores, and calls of functions that the machine must be able to run

    use std::arch::is_x86_feature_detected;
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};

    use half::f16;

    use super::ErrorSums;

    /// [`super::max_abs`]; none where the machine cannot.
    pub(super) fn max_abs(row: &[f16]) -> Option<f16> {
        // SAFETY: the machine has just been asked for the one thing that the function takes.
        is_x86_feature_detected!("avx2").then(|| unsafe { max_abs_avx2(row) })
    }

    /// [`super::quantize`]; none where the machine cannot.
    pub(super) fn quantize(weights: &[f32], scale: f32, q: &mut [i8]) -> Option<ErrorSums> {
        // SAFETY: the machine has just been asked for the one thing that the function takes.
        is_x86_feature_detected!("avx2").then(|| unsafe { quantize_avx2(weights, scale, q) })
    }

    /// [`super::widen`]; false where the machine cannot.
    pub(super) fn widen(row: &[f16], out: &mut [f32]) -> bool {
        let able = is_x86_feature_detected!("avx") && is_x86_feature_detected!("f16c");
        if able {
            // SAFETY: the machine has just been asked for all that the function takes.
            unsafe { widen_f16c(row, out) };
        }
        able
    }

    #[target_feature(enable = "avx,f16c")]
    fn widen_f16c(row: &[f16], out: &mut [f32]) {
        let (row, row_rest) = row.as_chunks::<8>();
        let (out, out_rest) = out.as_chunks_mut::<8>();
        for (row, out) in row.iter().zip(out) {
            // SAFETY: eight elements are read and eight written, and neither asks for alignment.
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(row.as_ptr().cast())));
            }
        }
        super::widen_each(row_rest, out_rest);
    }

    #[target_feature(enable = "avx2")]
    fn max_abs_avx2(row: &[f16]) -> f16 {
        super::max_abs_of(row)
    }

    #[target_feature(enable = "avx2")]
    fn quantize_avx2(weights: &[f32], scale: f32, q: &mut [i8]) -> ErrorSums {
        super::quantize_by(weights, scale, q)
    }
}

#[cfg(test)]
#[path = "arithmetic_tests.rs"]
mod tests;
