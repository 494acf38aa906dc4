//! Rounding to fp16.

use std::cmp::Ordering;

use half::f16;

/// The one NaN that arithmetic writes. Operations that only move elements keep whatever NaN they move.
pub const NAN: f16 = f16::from_bits(0x7e00);

/// Rounds to the nearest fp16, ties to even; subnormals are kept, overflow gives infinity, any NaN gives [`NAN`].
pub fn round(value: f32) -> f16 {
    if value.is_nan() { NAN } else { f16::from_f32(value) }
}

/// Rounds an f64 as [`round`] does an f32, once. `f16::from_f64` will not do: its bits depend on the machine. Where the processor
/// converts f32 it goes through that and rounds twice; its own way otherwise drops the last 32 bits, and a value just beside a tie
/// becomes one. Going through f32 *rounded to odd* (the last bit set whenever something was dropped) keeps which side of a tie the
/// value lies on, since f32 has more than two bits beyond fp16.
pub fn round_f64(value: f64) -> f16 {
    let near = value as f32;
    let even = near.to_bits() & 1 == 0;
    let odd = match f64::from(near).abs().partial_cmp(&value.abs()) {
        Some(Ordering::Less) if even => f32::from_bits(near.to_bits() + 1),
        Some(Ordering::Greater) if even => f32::from_bits(near.to_bits() - 1),
        _ => near,
    };
    round(odd)
}

/// Whether the element is a number: neither infinity nor NaN.
pub fn is_finite(value: f16) -> bool {
    magnitude_bits(value) < 0x7c00
}

/// The bits without the sign. Their order is the order of magnitudes; infinity is `0x7c00` and NaN lies above.
pub fn magnitude_bits(value: f16) -> u16 {
    value.to_bits() & 0x7fff
}

/// What [`order`] gives NaN: less than anything else.
pub const NAN_ORDER: i16 = i16::MIN;

/// The place of a number among all fp16 numbers: equal numbers, ±0 among them, have equal places. NaN comes before all of them.
#[inline(always)]
pub fn order(value: f16) -> i16 {
    let bits = value.to_bits() as i16;
    // Negative numbers count backwards; that makes −0 a −1.
    let place = bits ^ ((bits >> 15) & 0x7fff);
    let place = if place == -1 { 0 } else { place };
    if bits & 0x7fff > 0x7c00 { NAN_ORDER } else { place }
}

/// The number at a place that [`order`] gave; +0 for both zeros.
pub fn at_order(place: i16) -> f16 {
    f16::from_bits((place ^ ((place >> 15) & 0x7fff)) as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Nearest fp16 by exhaustion over the finite ones and the two values the rounding treats as ±65536.
    fn nearest(value: f64) -> u16 {
        let magnitude = value.abs();
        let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
        let exact = |bits: u16| if bits == 0x7c00 { 65536.0 } else { f16::from_bits(bits).to_f64() };
        let below = (0..=0x7c00u16).collect::<Vec<_>>().partition_point(|&bits| exact(bits) <= magnitude);
        let below = (below.max(1) - 1) as u16;
        if below == 0x7c00 {
            return sign | 0x7c00;
        }
        let (low, high) = (magnitude - exact(below), exact(below + 1) - magnitude);
        sign | if low < high || (low == high && below.is_multiple_of(2)) { below } else { below + 1 }
    }

    #[test]
    fn rounds_to_nearest_even_subnormals_and_overflow_included() {
        let cases = [
            0.0,
            -0.0,
            1.0,
            65504.0,
            65519.9,
            65520.0,
            70000.0,
            -65520.0,
            5.96e-8,
            2.98e-8,
            2.99e-8,
            8.9e-8,
            6.1e-5,
            1.000_488_3,
            1.001_464_8,
            -3.05e-5,
            1e-30,
            f32::INFINITY,
        ];
        for value in cases {
            assert_eq!(round(value).to_bits(), nearest(f64::from(value)), "{value}");
        }
    }

    #[test]
    fn rounding_once_is_to_nearest_even_where_rounding_twice_is_not() {
        // Just beside the tie between 1 and the next fp16: f32 would fall onto the tie, and the tie to even.
        let (tie, dust) = (1.0 + 2f64.powi(-11), 2f64.powi(-40));
        assert_eq!(round_f64(tie), f16::ONE);
        assert_eq!(round_f64(tie + dust).to_bits(), f16::ONE.to_bits() + 1);
        assert_eq!(f16::from_f32((tie + dust) as f32), f16::ONE, "rounding twice loses this");
        let odd_tie = 1.0 + 3.0 * 2f64.powi(-11);
        assert_eq!(round_f64(odd_tie - dust).to_bits(), f16::ONE.to_bits() + 1);
        for x in [tie, tie + dust, tie - dust, odd_tie, odd_tie - dust, odd_tie + dust] {
            for x in [x, -x] {
                assert_eq!(round_f64(x).to_bits(), nearest(x), "{x:e}");
            }
        }
    }

    #[test]
    fn an_f64_beside_a_tie_rounds_to_its_own_side() {
        let largest = f16::MAX.to_f64() + 16.0;
        for tie in
            [1.0 + 2f64.powi(-11), 1.0 + 3.0 * 2f64.powi(-11), 2f64.powi(-25), 3.0 * 2f64.powi(-25), largest]
        {
            // 2⁻⁵⁰ of the value is less than f32 tells, and among the last 32 bits of an f64.
            for value in [tie, tie * (1.0 + 2f64.powi(-50)), tie * (1.0 - 2f64.powi(-50))] {
                for value in [value, -value] {
                    assert_eq!(round_f64(value).to_bits(), nearest(value), "{value:e}");
                }
            }
        }
    }

    #[test]
    fn every_size_of_f64_rounds() {
        for value in [0.0, 1e-300, 2.9e-8, 3e-8, 6e-8, 0.1, 1.190_238, 65519.999, 1e300, f64::INFINITY] {
            for value in [value, -value] {
                assert_eq!(round_f64(value).to_bits(), nearest(value), "{value:e}");
            }
        }
    }

    #[test]
    fn every_nan_becomes_the_one_nan() {
        for bits in [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xffff_ffff] {
            assert_eq!(round(f32::from_bits(bits)).to_bits(), 0x7e00);
        }
        for bits in [0x7ff8_0000_0000_0000, 0xfff8_0000_0000_0000, 0x7ff0_0000_0000_0001, u64::MAX] {
            assert_eq!(round_f64(f64::from_bits(bits)).to_bits(), 0x7e00);
        }
    }

    #[test]
    fn every_fp16_survives_the_way_to_fp32_and_back() {
        for bits in 0..=u16::MAX {
            let value = f16::from_bits(bits);
            if !value.is_nan() {
                assert_eq!(round(value.to_f32()).to_bits(), bits);
            }
        }
    }

    #[test]
    fn places_are_in_the_order_of_numbers() {
        let mut all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        all.sort_by_key(|&value| order(value));
        let nans = all.iter().take_while(|value| value.is_nan()).count();
        assert_eq!(nans, 2 * 0x3ff);
        for pair in all[nans..].windows(2) {
            assert_eq!(order(pair[0]).cmp(&order(pair[1])), pair[0].partial_cmp(&pair[1]).unwrap());
            assert_eq!(at_order(order(pair[0])), pair[0]);
        }
        assert!(
            all[..nans].iter().all(|&nan| order(nan) == NAN_ORDER) && order(f16::NEG_INFINITY) > NAN_ORDER
        );
    }

    proptest! {
        #[test]
        fn any_f64_rounds_to_the_nearest(significand in any::<i64>(), exponent in -95..-40) {
            let value = significand as f64 * 2f64.powi(exponent);
            prop_assert_eq!(round_f64(value).to_bits(), nearest(value));
        }

        #[test]
        fn any_two_numbers_compare_as_their_places(a in any::<u16>(), b in any::<u16>()) {
            let (a, b) = (f16::from_bits(a), f16::from_bits(b));
            if a.is_nan() || b.is_nan() {
                prop_assert_eq!(order(if a.is_nan() { a } else { b }), NAN_ORDER);
            } else {
                prop_assert_eq!(order(a).cmp(&order(b)), a.partial_cmp(&b).expect("numbers"));
                prop_assert!(order(a) > NAN_ORDER);
            }
        }
    }
}
