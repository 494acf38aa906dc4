//! exp, tanh and the logistic function in fp32, as fixed sequences of IEEE operations.
//!
//! The C library's versions differ between systems in the last bits, so they cannot be part of a specification. These
//! use only additions, multiplications, divisions and comparisons, each rounded once (no fused multiply-add), and so
//! give the same bits everywhere. Polynomials: Cephes (`expf.c`, `tanhf.c`), S. L. Moshier.

/// Below this [`exp`] is exactly +0. `e^-87` is the last power of e that is comfortably a normal fp32.
pub const EXP_LOWEST: f32 = -87.0;

/// Above this [`exp`] is +∞.
pub const EXP_HIGHEST: f32 = 88.0;

/// Adding and subtracting 1.5·2²³ rounds an fp32 of magnitude below 2²² to an integer, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// 355/512: nine significant bits, so `n * LN2_HIGH` is exact for |n| < 2¹⁵.
const LN2_HIGH: f32 = 355.0 / 512.0;

/// ln 2 − 355/512, rounded.
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `e^x`: relative error at most 2⁻²³ for −87 ≤ x ≤ 88; +0 below, +∞ above, NaN for NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Selections instead of branches, so that a loop over `exp` vectorizes.
    let inside = if x > EXP_HIGHEST { EXP_HIGHEST } else { x };
    let inside = if inside < EXP_LOWEST { EXP_LOWEST } else { inside };
    let shifted = inside * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (inside - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_6e-1;
    p = p * r + 0.5;
    p = p * (r * r) + r + 1.0;
    // The low bits of `shifted` hold n; −126 ≤ n ≤ 127, so 2ⁿ is a normal number built from its exponent field.
    let exponent = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127);
    let scaled = p * f32::from_bits(exponent << 23);
    let scaled = if x < EXP_LOWEST { 0.0 } else { scaled };
    let scaled = if x > EXP_HIGHEST { f32::INFINITY } else { scaled };
    if x.is_nan() { x } else { scaled }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x / (1 + e^-x)`; NaN for −∞.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The hyperbolic tangent: relative error at most 2⁻²². Below 0.625 an odd polynomial, above 1 − 2/(e^2|x| + 1).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let magnitude = x.abs();
    let z = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * z + 2.063_909e-2;
    p = p * z - 5.373_971_6e-2;
    p = p * z + 1.333_144_2e-1;
    p = p * z - 3.333_328e-1;
    let near = p * z * x + x;
    let far = 1.0 - 2.0 / (exp(magnitude + magnitude) + 1.0);
    if magnitude < 0.625 { near } else { far.copysign(x) }
}

/// GELU by its tanh approximation: `(x/2) · (1 + tanh(√(2/π) · (x + 0.044715·x³)))`; NaN for −∞.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.797_884_6 * (x + 0.044_715 * (x * x * x));
    0.5 * x * (1.0 + tanh(inner))
}

/// GELU by its logistic approximation: `x · σ(1.702·x)`.
#[inline(always)]
pub fn gelu_sigmoid(x: f32) -> f32 {
    x * sigmoid(1.702 * x)
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::portable::arith::half::round;

    fn relative(value: f32, exact: f64) -> f64 {
        ((f64::from(value) - exact) / exact).abs()
    }

    #[test]
    fn exp_is_within_its_bound_on_a_dense_grid() {
        let worst = (-8_700_000..=8_800_000)
            .step_by(7)
            .map(|i| i as f32 * 1e-5)
            .map(|x| relative(exp(x), f64::from(x).exp()))
            .fold(0.0, f64::max);
        assert!(worst <= 2f64.powi(-23), "{worst:e}");
    }

    #[test]
    fn exp_at_its_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(EXP_LOWEST.next_down()).to_bits(), 0);
        assert!(exp(EXP_LOWEST) >= f32::MIN_POSITIVE);
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(EXP_HIGHEST.next_up()), f32::INFINITY);
        assert!(exp(EXP_HIGHEST).is_finite());
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn every_fp16_is_within_half_a_step_and_a_hair() {
        // fp16 results: at most 0.51 of the spacing from the exact value (0.5 is what rounding itself costs).
        type Pair = (&'static str, fn(f32) -> f32, fn(f64) -> f64);
        let functions: [Pair; 5] = [
            ("exp", exp, f64::exp),
            ("tanh", tanh, f64::tanh),
            ("sigmoid", sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
            ("silu", silu, |x| x / (1.0 + (-x).exp())),
            ("gelu_sigmoid", gelu_sigmoid, |x| x / (1.0 + (-1.702 * x).exp())),
        ];
        for (name, ours, exact) in functions {
            for bits in 0..=u16::MAX {
                let x = f16::from_bits(bits);
                if !x.is_finite() {
                    continue;
                }
                let (y, exact) = (round(ours(x.to_f32())), exact(x.to_f64()));
                if exact.abs() >= 65504.0 {
                    assert!(y.to_f64().abs() >= 65504.0, "{name}({x}) = {y}");
                    continue;
                }
                let spacing = (f16::from_bits((y.to_bits() & 0x7fff) + 1).to_f64() - y.to_f64().abs())
                    .max(2f64.powi(-24));
                let error = (y.to_f64() - exact).abs();
                assert!(error <= 0.51 * spacing, "{name}({x}) = {y}, exactly {exact}");
            }
        }
    }

    #[test]
    fn gelu_tanh_agrees_with_its_formula_in_f64() {
        for i in -12_000..=12_000 {
            let x = i as f32 * 1e-3;
            let wide = f64::from(x);
            let exact =
                0.5 * wide * (1.0 + (0.797_884_560_802_865_4 * (wide + 0.044_715 * wide.powi(3))).tanh());
            assert!((f64::from(gelu_tanh(x)) - exact).abs() <= 2e-6, "{x}");
        }
    }

    proptest! {
        #[test]
        fn tanh_is_odd_and_within_its_bound(x in -20f32..20.0) {
            prop_assert_eq!(tanh(-x).to_bits(), (-tanh(x)).to_bits());
            prop_assume!(x != 0.0);
            prop_assert!(relative(tanh(x), f64::from(x).tanh()) <= 2f64.powi(-22));
        }
    }
}
