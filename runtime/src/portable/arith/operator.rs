//! Elementwise operators: one fp32 value, or two, to one.
//!
//! Operands are widened to fp32 (exactly), the operator is applied there, and the caller rounds once to the storage
//! type. For sums, differences, products, quotients and roots that equals rounding the exact result once, because fp32 has more than
//! twice the significant bits of fp16.

use super::elementary;

/// An operator of two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// x + y.
    Add,
    /// x − y.
    Sub,
    /// x · y.
    Mul,
    /// x / y.
    Div,
    /// The larger; NaN if either is; +0 above −0.
    Maximum,
    /// The smaller; NaN if either is; −0 below +0.
    Minimum,
}

impl Binary {
    /// Applies the operator.
    #[inline(always)]
    pub fn apply(self, x: f32, y: f32) -> f32 {
        match self {
            Self::Add => x + y,
            Self::Sub => x - y,
            Self::Mul => x * y,
            Self::Div => x / y,
            Self::Maximum => maximum(x, y),
            Self::Minimum => minimum(x, y),
        }
    }
}

/// An operator of one operand, with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// |x|.
    Abs,
    /// √x.
    Sqrt,
    /// 1 / √(x + epsilon).
    Rsqrt {
        /// Added before the root.
        epsilon: f32,
    },
    /// 1 / (x + epsilon).
    Inverse {
        /// Added before the division.
        epsilon: f32,
    },
    /// x².
    Square,
    /// eˣ.
    Exp,
    /// Hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// x / (1 + e⁻ˣ).
    Silu,
    /// GELU, tanh approximation.
    GeluTanh,
    /// GELU, logistic approximation.
    GeluSigmoid,
    /// The larger of x and +0.
    Relu,
    /// min(max(x, low), high).
    Clip {
        /// Lower limit.
        low: f32,
        /// Upper limit.
        high: f32,
    },
}

impl Unary {
    /// Applies the operator.
    #[inline(always)]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Abs => x.abs(),
            Self::Sqrt => x.sqrt(),
            Self::Rsqrt { epsilon } => 1.0 / (x + epsilon).sqrt(),
            Self::Inverse { epsilon } => 1.0 / (x + epsilon),
            Self::Square => x * x,
            Self::Exp => elementary::exp(x),
            Self::Tanh => elementary::tanh(x),
            Self::Sigmoid => elementary::sigmoid(x),
            Self::Silu => elementary::silu(x),
            Self::GeluTanh => elementary::gelu_tanh(x),
            Self::GeluSigmoid => elementary::gelu_sigmoid(x),
            Self::Relu => maximum(x, 0.0),
            Self::Clip { low, high } => minimum(maximum(x, low), high),
        }
    }
}

/// The larger of two; NaN if either is; +0 above −0.
#[inline(always)]
pub fn maximum(x: f32, y: f32) -> f32 {
    let larger = if x > y { x } else { y };
    // Equal operands differ at most in the sign of zero: it is negative only if both are.
    let larger = if x == y { f32::from_bits(x.to_bits() & y.to_bits()) } else { larger };
    if x.is_nan() { x } else { larger }
}

/// The smaller of two; NaN if either is; −0 below +0.
#[inline(always)]
pub fn minimum(x: f32, y: f32) -> f32 {
    let smaller = if x < y { x } else { y };
    let smaller = if x == y { f32::from_bits(x.to_bits() | y.to_bits()) } else { smaller };
    if x.is_nan() { x } else { smaller }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::portable::arith::half::{round, round_f64};

    #[test]
    fn maximum_and_minimum_order_zeros_and_pass_nan() {
        let bits = |x: f32| x.to_bits();
        for (x, y) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert_eq!(bits(maximum(x, y)), bits(0.0));
            assert_eq!(bits(minimum(x, y)), bits(-0.0));
        }
        assert_eq!(bits(maximum(-0.0, -0.0)), bits(-0.0));
        for (x, y) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::NAN, f32::NAN)] {
            assert!(maximum(x, y).is_nan() && minimum(x, y).is_nan());
        }
        assert_eq!((maximum(-3.0, 2.0), minimum(-3.0, 2.0)), (2.0, -3.0));
        assert_eq!(maximum(f32::NEG_INFINITY, -65504.0), -65504.0);
    }

    #[test]
    fn negative_infinity_has_no_silu() {
        assert!(Unary::Silu.apply(f32::NEG_INFINITY).is_nan());
        assert_eq!(Unary::Silu.apply(-65504.0).to_bits(), (-0.0f32).to_bits());
    }

    proptest! {
        /// Sums, differences and products are exact in fp64, and a quotient that is not lies further from every tie than fp64's
        /// error: rounding fp64's result once is rounding the exact one.
        #[test]
        fn fp32_results_round_as_exact_ones_do(x in any::<u16>(), y in any::<u16>()) {
            let (x, y) = (f16::from_bits(x), f16::from_bits(y));
            prop_assume!(x.is_finite() && y.is_finite());
            let exact = |operator: Binary| match operator {
                Binary::Add => x.to_f64() + y.to_f64(),
                Binary::Sub => x.to_f64() - y.to_f64(),
                Binary::Mul => x.to_f64() * y.to_f64(),
                _ => x.to_f64() / y.to_f64(),
            };
            for operator in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
                let ours = round(operator.apply(x.to_f32(), y.to_f32()));
                let exact = exact(operator);
                if !exact.is_nan() {
                    prop_assert_eq!(ours.to_bits(), round_f64(exact).to_bits(), "{:?} {} {}", operator, x, y);
                }
            }
        }
    }
}
