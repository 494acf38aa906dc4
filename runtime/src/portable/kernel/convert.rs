//! Between fp16 in memory and fp32 in registers.
#![allow(unsafe_code, clippy::wildcard_imports)]

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use half::f16;
#[cfg(not(target_arch = "aarch64"))]
use half::slice::HalfFloatSliceExt;

use super::Isa;
use super::isa::Level;
#[cfg(not(target_arch = "aarch64"))]
use crate::portable::arith::half::NAN;

/// Widens `x` into `out`, exactly.
///
/// # Panics
/// If they differ in length.
pub fn widen(isa: Isa, x: &[f16], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "lengths of fp16 and fp32 elements");
    match isa.level() {
        #[cfg(not(target_arch = "aarch64"))]
        Level::Baseline => x.convert_to_f32_slice(out),
        // SAFETY: NEON is a part of the target.
        #[cfg(target_arch = "aarch64")]
        Level::Baseline | Level::Neon | Level::NeonI8mm => unsafe { widen_neon(x, out) },
        // SAFETY: an `Isa` of this level exists only where the features were detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni => unsafe { widen_avx2(x, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { widen_avx512(x, out) },
    }
}

/// Rounds `values` to fp16 as [`crate::portable::arith::half::round`] does: ties to even, one NaN.
///
/// # Panics
/// If they differ in length.
pub fn narrow(isa: Isa, values: &[f32], out: &mut [f16]) {
    assert_eq!(values.len(), out.len(), "lengths of fp32 and fp16 elements");
    match isa.level() {
        #[cfg(not(target_arch = "aarch64"))]
        Level::Baseline => {
            out.convert_from_f32_slice(values);
            for (out, value) in out.iter_mut().zip(values) {
                *out = if value.is_nan() { NAN } else { *out };
            }
        }
        // SAFETY: NEON is a part of the target.
        #[cfg(target_arch = "aarch64")]
        Level::Baseline | Level::Neon | Level::NeonI8mm => unsafe { narrow_neon(values, out) },
        // SAFETY: an `Isa` of this level exists only where the features were detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni => unsafe { narrow_avx2(values, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { narrow_avx512(values, out) },
    }
}

/// Rounds `x · factor` to integers, ties to even. No product may be larger than 2³⁰.
///
/// # Panics
/// If they differ in length.
pub fn to_integers(isa: Isa, x: &[f32], factor: f32, out: &mut [i32]) {
    assert_eq!(x.len(), out.len(), "lengths of fp32 elements and integers");
    match isa.level() {
        #[cfg(not(target_arch = "aarch64"))]
        Level::Baseline => round_each(x, factor, out),
        #[cfg(target_arch = "aarch64")]
        Level::Baseline | Level::Neon | Level::NeonI8mm => round_each(x, factor, out),
        // SAFETY: an `Isa` of these levels exists only where AVX2 was detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 => unsafe { to_integers_avx2(x, factor, out) },
    }
}

fn round_each(x: &[f32], factor: f32, out: &mut [i32]) {
    for (x, out) in x.iter().zip(out) {
        *out = (x * factor).round_ties_even() as i32;
    }
}

/// In so many words, because the compiler does not vectorize a conversion that saturates.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn to_integers_avx2(x: &[f32], factor: f32, out: &mut [i32]) {
    let (whole, tail) = x.as_chunks::<8>();
    let (out, rest) = out.as_chunks_mut::<8>();
    for (x, out) in whole.iter().zip(out) {
        // SAFETY: eight fp32 are read from an array of eight, eight int32 written to an array of eight.
        unsafe {
            let products = _mm256_mul_ps(_mm256_loadu_ps(x.as_ptr()), _mm256_set1_ps(factor));
            _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_cvtps_epi32(products));
        }
    }
    round_each(tail, factor, rest);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn widen_avx2(x: &[f16], out: &mut [f32]) {
    let (whole, tail) = x.as_chunks::<8>();
    let (out, rest) = out.as_chunks_mut::<8>();
    for (x, out) in whole.iter().zip(out) {
        // SAFETY: eight fp16 are read from an array of eight, eight fp32 written to an array of eight.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast()))) };
    }
    for (x, out) in tail.iter().zip(rest) {
        *out = x.to_f32();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,f16c")]
fn widen_avx512(x: &[f16], out: &mut [f32]) {
    let (whole, tail) = x.as_chunks::<16>();
    let (out, rest) = out.as_chunks_mut::<16>();
    for (x, out) in whole.iter().zip(out) {
        // SAFETY: sixteen fp16 are read from an array of sixteen, sixteen fp32 written to an array of sixteen.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast()))) };
    }
    if !tail.is_empty() {
        let mask = (1u16 << tail.len()) - 1;
        // SAFETY: masked-out elements are neither read nor written, and both slices have as many as the mask.
        unsafe {
            let x = _mm256_maskz_loadu_epi16(mask, tail.as_ptr().cast());
            _mm512_mask_storeu_ps(rest.as_mut_ptr(), mask, _mm512_cvtph_ps(x));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn narrow_avx2(values: &[f32], out: &mut [f16]) {
    let (whole, tail) = values.as_chunks::<8>();
    let (out, rest) = out.as_chunks_mut::<8>();
    for (values, out) in whole.iter().zip(out) {
        // SAFETY: eight fp32 are read from an array of eight, eight fp16 written to an array of eight.
        unsafe {
            let values = _mm256_loadu_ps(values.as_ptr());
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(values, values);
            let values = _mm256_blendv_ps(values, _mm256_set1_ps(f32::NAN), nan);
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values));
        }
    }
    for (value, out) in tail.iter().zip(rest) {
        *out = crate::portable::arith::half::round(*value);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,f16c")]
fn narrow_avx512(values: &[f32], out: &mut [f16]) {
    let (whole, tail) = values.as_chunks::<16>();
    let (out, rest) = out.as_chunks_mut::<16>();
    for (values, out) in whole.iter().zip(out) {
        // SAFETY: sixteen fp32 are read from an array of sixteen, sixteen fp16 written to an array of sixteen.
        unsafe {
            let halves = round_avx512(_mm512_loadu_ps(values.as_ptr()));
            _mm256_storeu_si256(out.as_mut_ptr().cast(), halves);
        }
    }
    if !tail.is_empty() {
        let mask = (1u16 << tail.len()) - 1;
        // SAFETY: masked-out elements are neither read nor written, and both slices have as many as the mask.
        unsafe {
            let halves = round_avx512(_mm512_maskz_loadu_ps(mask, tail.as_ptr()));
            _mm256_mask_storeu_epi16(rest.as_mut_ptr().cast(), mask, halves);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn round_avx512(values: __m512) -> __m256i {
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
    let values = _mm512_mask_blend_ps(nan, values, _mm512_set1_ps(f32::NAN));
    _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values)
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn widen_neon(x: &[f16], out: &mut [f32]) {
    let (whole, tail) = x.as_chunks::<4>();
    let (out, rest) = out.as_chunks_mut::<4>();
    for (x, out) in whole.iter().zip(out) {
        *out = widen_four(x);
    }
    // One at a time, `half` would ask for a further feature each time, or spell the conversion out.
    let mut last = [f16::ZERO; 4];
    last[..tail.len()].copy_from_slice(tail);
    rest.copy_from_slice(&widen_four(&last)[..tail.len()]);
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[inline]
fn widen_four(x: &[f16; 4]) -> [f32; 4] {
    let mut out = [0.0; 4];
    // SAFETY: four fp16 are read from an array of four, four fp32 written to an array of four.
    unsafe {
        let x = vreinterpret_f16_u16(vld1_u16(x.as_ptr().cast()));
        vst1q_f32(out.as_mut_ptr(), vcvt_f32_f16(x));
    }
    out
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn narrow_neon(values: &[f32], out: &mut [f16]) {
    let (whole, tail) = values.as_chunks::<4>();
    let (out, rest) = out.as_chunks_mut::<4>();
    for (values, out) in whole.iter().zip(out) {
        *out = narrow_four(values);
    }
    let mut last = [0.0; 4];
    last[..tail.len()].copy_from_slice(tail);
    rest.copy_from_slice(&narrow_four(&last)[..tail.len()]);
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[inline]
fn narrow_four(values: &[f32; 4]) -> [f16; 4] {
    let mut out = [f16::ZERO; 4];
    // SAFETY: four fp32 are read from an array of four, four fp16 written to an array of four.
    unsafe {
        let values = vld1q_f32(values.as_ptr());
        // A NaN would keep the high bits of its payload.
        let values = vbslq_f32(vceqq_f32(values, values), values, vdupq_n_f32(f32::NAN));
        vst1_u16(out.as_mut_ptr().cast(), vreinterpret_u16_f16(vcvt_f16_f32(values)));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::portable::arith::half::round;

    #[test]
    fn every_fp16_is_widened_exactly() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for isa in Isa::available() {
            let mut out = vec![0.0; all.len()];
            widen(isa, &all, &mut out);
            for (x, wide) in all.iter().zip(out) {
                assert!(wide == x.to_f32() || (wide.is_nan() && x.is_nan()), "{isa:?} {x:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn integers_are_rounded_to_even(
            values in prop::collection::vec(
                prop_oneof![-1e9f32..1e9, (-100i32..100).prop_map(|x| x as f32 / 2.0), -0.6f32..0.6],
                0..40,
            ),
            exponent in -3i32..=0,
        ) {
            let factor = 2f32.powi(exponent);
            let expected: Vec<i32> =
                values.iter().map(|x| (f64::from(*x) * f64::from(factor)).round_ties_even() as i32).collect();
            for isa in Isa::available() {
                let mut out = vec![1; values.len()];
                to_integers(isa, &values, factor, &mut out);
                prop_assert_eq!(&expected, &out, "{:?}", isa);
            }
        }

        #[test]
        fn rounds_as_the_definition_does(
            values in prop::collection::vec(
                prop_oneof![any::<f32>(), any::<u32>().prop_map(f32::from_bits), -70000f32..70000.0, -1e-6f32..1e-6],
                0..70,
            ),
        ) {
            let expected: Vec<u16> = values.iter().map(|&value| round(value).to_bits()).collect();
            for isa in Isa::available() {
                let mut out = vec![f16::ONE; values.len()];
                narrow(isa, &values, &mut out);
                let found: Vec<u16> = out.iter().map(|x| x.to_bits()).collect();
                prop_assert_eq!(&expected, &found, "{:?}", isa);
                let mut wide = vec![1.0; out.len()];
                widen(isa, &out, &mut wide);
                for (x, wide) in out.iter().zip(wide) {
                    prop_assert!(wide == x.to_f32() || wide.is_nan() && x.is_nan());
                }
            }
        }
    }
}
