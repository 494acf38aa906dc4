//! Products of int8 matrices with fp16 columns, in exact integer arithmetic.
//!
//! Per column: the largest magnitude fixes an exponent E, every element becomes the 30-bit integer
//! q = round(x · 2^(29−E)), the sum Σ q·w is exact in 64 bits, and one fp64 product with the row's scale and three
//! roundings (fp64, fp32, fp16) give the result. Integer sums have no order, so neither tiling nor threads nor the
//! instruction set can change a bit.

use half::f16;

use super::half::magnitude_bits;

/// The longest column: up to here |Σ q·w| ≤ 2⁵³, exact in fp64 too, and no int32 partial sum of digits overflows.
pub const MAX_COLUMN: usize = 65_536;

/// Fraction bits of the largest element.
const FRACTION_BITS: i32 = 29;

/// How a column of activations is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// Nothing but zeros: every product is +0.
    Zero,
    /// An infinity or a NaN somewhere: every product is NaN.
    NonFinite,
    /// The exponent of the largest magnitude, −24 to 15.
    Exponent(i32),
}

impl Scaling {
    /// The scaling of a column whose largest magnitude has these bits (see [`magnitude_bits`]).
    pub fn of_largest(bits: u16) -> Self {
        match bits {
            0 => Self::Zero,
            0x7c00.. => Self::NonFinite,
            0x0400.. => Self::Exponent(i32::from(bits >> 10) - 15),
            _ => Self::Exponent(bits.ilog2() as i32 - 24),
        }
    }

    /// The scaling of `column`.
    pub fn of(column: impl IntoIterator<Item = f16>) -> Self {
        Self::of_largest(column.into_iter().map(magnitude_bits).max().unwrap_or(0))
    }
}

/// The 30-bit integer that stands for `x` in a column of exponent `exponent`: |q| ≤ 2047·2¹⁹.
#[inline(always)]
pub fn quantize(x: f32, exponent: i32) -> i32 {
    // The product is exact: a power of two between 2¹⁴ and 2⁵³ moves an 11-bit significand.
    (x * factor(exponent)).round_ties_even() as i32
}

/// What elements of a column of this exponent are multiplied with before they are rounded: 2^(29−E).
#[inline(always)]
pub fn factor(exponent: i32) -> f32 {
    power_of_two(FRACTION_BITS - exponent)
}

/// The product of one row with one column, before the last rounding (and before a bias): `sum` is Σ q·w.
#[inline(always)]
pub fn dequantize(sum: i64, scale: f64, exponent: i32) -> f32 {
    ((sum as f64 * scale) * unit(exponent)) as f32
}

/// What one step of the integer sum is worth in a column of this exponent: 2^(E−29).
#[inline(always)]
pub fn unit(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent - FRACTION_BITS) as u64) << 52)
}

fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent) as u32) << 23)
}

/// The product of one row of weights with one column, by the definition: no tiling, 64-bit sums.
pub fn product(row: &[i8], scale: f16, column: &[f16]) -> f32 {
    match Scaling::of(column.iter().copied()) {
        Scaling::Zero => 0.0,
        Scaling::NonFinite => f32::NAN,
        Scaling::Exponent(exponent) => {
            let sum = row
                .iter()
                .zip(column)
                .map(|(&w, &x)| i64::from(quantize(x.to_f32(), exponent)) * i64::from(w))
                .sum();
            dequantize(sum, scale.to_f64(), exponent)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_exponent_is_that_of_the_largest_magnitude() {
        for bits in 1..0x7c00 {
            let value = f16::from_bits(bits).to_f64();
            assert_eq!(Scaling::of_largest(bits), Scaling::Exponent(value.log2().floor() as i32), "{value}");
        }
        assert_eq!(Scaling::of([f16::ZERO, f16::NEG_ZERO]), Scaling::Zero);
        assert_eq!(Scaling::of([f16::ONE, f16::NEG_INFINITY]), Scaling::NonFinite);
        assert_eq!(Scaling::of([f16::NAN]), Scaling::NonFinite);
        assert_eq!(Scaling::of([f16::ONE, f16::from_f32(-4.5)]), Scaling::Exponent(2));
    }

    #[test]
    fn the_largest_element_keeps_all_its_bits() {
        assert_eq!(quantize(65504.0, 15), 2047 << 19);
        assert_eq!(quantize(-65504.0, 15), -(2047 << 19));
        assert_eq!(quantize(f32::from(f16::from_bits(1)), -24), 1 << 29);
        assert_eq!(quantize(f32::from(f16::from_bits(1)), 15), 0);
    }

    #[test]
    fn rounds_ties_to_even() {
        // 3·2^-24 in a column that reaches 2^6: 3·2^-24·2^23 = 1.5, and 2.5 beside it.
        assert_eq!(quantize(f32::from(f16::from_bits(3)), 6), 2);
        assert_eq!(quantize(f32::from(f16::from_bits(5)), 6), 2);
    }

    proptest! {
        /// Against rational arithmetic in i128: x·2^24 is an integer, so Σ x·w·scale is exact when no element is
        /// small beside the largest.
        #[test]
        fn equals_the_exact_product_rounded_thrice(
            elements in prop::collection::vec((0x3000u16..0x5400, any::<bool>(), any::<i8>()), 1..200),
            scale in 0x1000u16..0x3c00,
        ) {
            let column: Vec<f16> =
                elements.iter().map(|&(bits, sign, _)| f16::from_bits(bits | u16::from(sign) << 15)).collect();
            let row: Vec<i8> = elements.iter().map(|e| e.2).collect();
            let scale = f16::from_bits(scale);
            let integer = |x: f16| (x.to_f64() * 16_777_216.0) as i128;
            let sum: i128 = column.iter().zip(&row).map(|(&x, &w)| integer(x) * i128::from(w)).sum();
            let exact = (sum as f64 * scale.to_f64()) / 16_777_216.0;
            prop_assert_eq!(product(&row, scale, &column).to_bits(), ((exact + 0.0) as f32).to_bits());
        }
    }
}
