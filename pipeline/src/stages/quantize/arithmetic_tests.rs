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
        (f16::from_bits(255), f16::from_bits(2), "127.5 steps, the nearest representable, loses half a step"),
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
    /// The one that is used and the one for every machine.
    #[test]
    fn wide_vectors_give_the_same_bits(row in rows()) {
        let (mut wide, mut each) = (vec![0.0; row.len()], vec![1.0; row.len()]);
        widen(&row, &mut wide);
        widen_each(&row, &mut each);
        prop_assert!(wide.iter().zip(&each).all(|(a, b)| a.to_bits() == b.to_bits()));
        let largest = max_abs(&row);
        prop_assert_eq!(largest.to_bits(), max_abs_of(&row).to_bits());
        let scale = scale_for(largest).to_f32();
        let (mut used, mut plain) = (vec![99; row.len()], vec![-99; row.len()]);
        let bits = |sums: ErrorSums| {
            [sums.ww.to_bits(), sums.ee.to_bits(), sums.we.to_bits(), sums.max.to_bits().into()]
        };
        let (found, expected) = (quantize(&wide, scale, &mut used), quantize_by(&wide, scale, &mut plain));
        prop_assert_eq!(bits(found), bits(expected));
        prop_assert_eq!(used, plain);
    }

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
            // The quotient of two fp16 values is no closer to the middle of two others than fp32 can tell.
            let quotient = f16::from_f32(w.to_f32() / scale.to_f32());
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
