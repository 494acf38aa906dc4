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

/// Quantizes weights by `scale`, a positive value, into `q`, of the same length.
pub(super) fn quantize(weights: &[f32], scale: f32, q: &mut [i8]) -> ErrorSums {
    let mut sums = ErrorSums::default();
    for (weights, q) in weights.chunks(RUN).zip(q.chunks_mut(RUN)) {
        sums.add(&quantize_run(weights, scale, q));
    }
    sums
}

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
#[inline]
fn quantize_one(w: f32, scale: f32) -> (i8, f32) {
    let quotient = (w / scale).clamp(-LIMIT, LIMIT);
    let shifted = round_to_fp16(quotient) + ROUNDER;
    // The low bits of the shifted value are the integer itself, in two's complement.
    (shifted.to_bits() as i8, w - (shifted - ROUNDER) * scale)
}

/// Rounds the significand of a finite value to fp16's 11 bits, ties to even. For magnitudes from 2⁻¹⁴ to below 2¹⁵ this
/// is the nearest fp16 value; smaller ones, which fp16 rounds more coarsely, are zero as integers either way. Written on
/// the bits because it vectorizes on every target.
#[inline]
fn round_to_fp16(x: f32) -> f32 {
    let bits = x.to_bits();
    let even = (bits >> EXTRA) & 1;
    f32::from_bits((bits + ((1 << (EXTRA - 1)) - 1) + even) & !((1 << EXTRA) - 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)] // exactness is what is tested

    use proptest::prelude::*;

    use super::*;

    fn finite() -> impl Strategy<Value = f16> {
        any::<u16>().prop_map(f16::from_bits).prop_filter("finite", |w| w.is_finite())
    }

    /// Rows as they occur and as they do not: any finite values, and values around one magnitude.
    fn rows() -> impl Strategy<Value = Vec<f16>> {
        let any_row = prop::collection::vec(finite(), 1..80);
        let one_magnitude =
            (-24_i32..15, prop::collection::vec(-1.0_f32..1.0, 1..600)).prop_map(|(exponent, row)| {
                row.into_iter().map(|w| f16::from_f32(w * 2_f32.powi(exponent))).collect()
            });
        prop_oneof![any_row, one_magnitude]
    }

    fn quantized(row: &[f16]) -> (f16, Vec<i8>, ErrorSums) {
        let wide: Vec<f32> = row.iter().map(|w| w.to_f32()).collect();
        let scale = scale_for(max_abs(row));
        let mut q = vec![99; row.len()];
        let sums = quantize(&wide, scale.to_f32(), &mut q);
        (scale, q, sums)
    }

    #[test]
    fn scales_at_the_edges_of_fp16() {
        let step = f16::from_bits(1);
        for (max, scale, why) in [
            (f16::ZERO, f16::ONE, "nothing to scale"),
            (step, step, "the smallest value"),
            (f16::from_bits(63), step, "max / 127 rounds to zero"),
            (f16::from_bits(127), step, "exact"),
            (f16::from_bits(128), f16::from_bits(2), "127 steps would clip 128"),
            (
                f16::from_bits(255),
                f16::from_bits(2),
                "127.5 steps, the nearest representable, loses half a step",
            ),
            (f16::from_f32(127.0), f16::ONE, "exact"),
            (f16::MAX, f16::from_f32(65504.0 / 127.0), "the largest value"),
        ] {
            assert_eq!(scale_for(max), scale, "{why}: {max}");
        }
    }

    #[test]
    fn what_is_not_finite_shows_in_the_maximum() {
        for bad in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN, -f16::NAN] {
            assert!(!max_abs(&[f16::ONE, bad, f16::MAX]).is_finite(), "{bad}");
        }
        assert_eq!(max_abs(&[]), f16::ZERO);
    }

    #[test]
    fn ties_go_to_even() {
        let mut q = [0; 6];
        quantize(&[0.5, 1.5, 2.5, -0.5, -1.5, 126.5], 1.0, &mut q);
        assert_eq!(q, [0, 2, 2, 0, -2, 126]);
    }

    #[test]
    fn measures_agree_with_their_definitions() {
        let weights = [3.0, -4.0, 0.4, 127.0];
        let mut q = [0; 4];
        let sums = quantize(&weights, 1.0, &mut q);
        assert_eq!(q, [3, -4, 0, 127]);
        let norm = (9.0_f64 + 16.0 + 0.16 + 16129.0).sqrt();
        assert!((sums.rms_relative() - 0.4 / norm).abs() < 1e-9);
        let after = (9.0_f64 + 16.0 + 16129.0).sqrt();
        assert!((sums.cosine() - after / norm).abs() < 1e-12);
        assert!((sums.max - 0.4).abs() < 1e-7);
        let nothing = quantize(&[0.0; 5], 1.0, &mut [0; 5]);
        assert_eq!((nothing.rms_relative(), nothing.cosine(), nothing.max), (0.0, 1.0, 0.0));
    }

    proptest! {
        #[test]
        fn every_weight_is_within_little_more_than_half_a_step(row in rows()) {
            let (scale, q, _) = quantized(&row);
            prop_assert!(scale.is_finite() && scale > f16::ZERO);
            let step = f64::from(scale);
            for (w, q) in row.iter().zip(&q) {
                prop_assert!(*q != i8::MIN);
                // Exact in fp64.
                let error = (f64::from(*w) - f64::from(*q) * step).abs();
                prop_assert!(error <= step * 17.0 / 32.0, "{w} became {q} · {scale}");
            }
        }

        #[test]
        fn values_are_the_quotients_rounded_to_fp16_and_to_an_integer(row in rows()) {
            let (scale, q, _) = quantized(&row);
            for (w, q) in row.iter().zip(&q) {
                // The quotient of two fp16 values is no closer to the middle of two others than fp64 can tell.
                let quotient = f16::from_f64(f64::from(*w) / f64::from(scale));
                let nearest = quotient.to_f64().round_ties_even().clamp(-127.0, 127.0);
                prop_assert_eq!(f64::from(*q), nearest);
            }
        }

        #[test]
        fn rounding_the_significand_is_rounding_to_fp16(x in -32768.0_f32..32768.0) {
            prop_assume!(x.abs() >= 2_f32.powi(-14));
            prop_assert_eq!(round_to_fp16(x), f16::from_f32(x).to_f32());
        }

        #[test]
        fn sums_are_those_of_a_plain_loop(row in rows()) {
            let (scale, q, sums) = quantized(&row);
            let mut plain = ErrorSums::default();
            for (w, q) in row.iter().zip(&q) {
                let w = f64::from(*w);
                let e = w - f64::from(*q) * f64::from(scale);
                plain.ww += w * w;
                plain.ee += e * e;
                plain.we += w * e;
                plain.max = plain.max.max(e.abs() as f32);
            }
            prop_assert!((sums.ww - plain.ww).abs() <= 1e-5 * plain.ww);
            prop_assert!((sums.ee - plain.ee).abs() <= 1e-5 * plain.ee + 1e-12 * plain.ww);
            prop_assert!((sums.cosine() - plain.cosine()).abs() <= 1e-6);
            prop_assert!((sums.max - plain.max).abs() <= 1e-6 * scale.to_f32());
        }
    }
}
