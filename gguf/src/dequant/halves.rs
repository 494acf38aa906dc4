//! f32 weights ↔ f16 weights, eight at a time where the machine can.
#![allow(unsafe_code)] // vector loads and stores, and calls of functions that the machine must be able to run

use half::f16;

/// Rounds `wide` to nearest, ties to even, into `out`. What is too large becomes infinite.
pub(crate) fn narrow(wide: &[f32], out: &mut [f16]) {
    #[cfg(target_arch = "x86_64")]
    if x86::available() {
        // SAFETY: the machine has just been asked for all that the function takes.
        unsafe { x86::narrow(wide, out) };
        return;
    }
    narrow_each(wide, out);
}

fn narrow_each(wide: &[f32], out: &mut [f16]) {
    wide.iter().zip(out).for_each(|(wide, out)| *out = f16::from_f32(*wide));
}

/// `halves` as f32, which holds them exactly.
pub(crate) fn widen(halves: &[f16], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::available() {
        // SAFETY: the machine has just been asked for all that the function takes.
        unsafe { x86::widen(halves, out) };
        return;
    }
    widen_each(halves, out);
}

fn widen_each(halves: &[f16], out: &mut [f32]) {
    halves.iter().zip(out).for_each(|(half, out)| *out = half.to_f32());
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm_storeu_si128, _mm256_cvtph_ps, _mm256_cvtps_ph,
        _mm256_loadu_ps, _mm256_storeu_ps,
    };

    use half::f16;

    pub(super) fn available() -> bool {
        std::arch::is_x86_feature_detected!("avx") && std::arch::is_x86_feature_detected!("f16c")
    }

    #[target_feature(enable = "avx,f16c")]
    pub(super) fn narrow(wide: &[f32], out: &mut [f16]) {
        let (wide, wide_rest) = wide.as_chunks::<8>();
        let (out, out_rest) = out.as_chunks_mut::<8>();
        for (wide, out) in wide.iter().zip(out) {
            // SAFETY: eight elements are read and eight written, and neither asks for alignment.
            unsafe {
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(wide.as_ptr()));
                _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
            }
        }
        super::narrow_each(wide_rest, out_rest);
    }

    #[target_feature(enable = "avx,f16c")]
    pub(super) fn widen(halves: &[f16], out: &mut [f32]) {
        let (halves, halves_rest) = halves.as_chunks::<8>();
        let (out, out_rest) = out.as_chunks_mut::<8>();
        for (halves, out) in halves.iter().zip(out) {
            // SAFETY: eight elements are read and eight written, and neither asks for alignment.
            unsafe {
                let wide = _mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast()));
                _mm256_storeu_ps(out.as_mut_ptr(), wide);
            }
        }
        super::widen_each(halves_rest, out_rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_half_widens_as_one_alone() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let (mut found, mut expected) = (vec![0.0; halves.len()], vec![0.0; halves.len()]);
        widen(&halves, &mut found);
        widen_each(&halves, &mut expected);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&expected));
    }

    proptest! {
        #[test]
        fn many_floats_narrow_as_one_alone(bits in prop::collection::vec(any::<u32>(), 0..60), small in any::<bool>()) {
            // Bits of any float, or of one near the range of f16.
            let near = |bits: u32| if small { bits & 0x8fff_ffff | 0x3000_0000 } else { bits };
            let wide: Vec<f32> = bits.into_iter().map(|bits| f32::from_bits(near(bits))).collect();
            let (mut found, mut expected) = (vec![f16::ZERO; wide.len()], vec![f16::ZERO; wide.len()]);
            narrow(&wide, &mut found);
            narrow_each(&wide, &mut expected);
            let bits = |values: &[f16]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&found), bits(&expected));
        }
    }
}
