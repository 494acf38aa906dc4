//! Floating-point numbers as MIL text writes them: C's `%a`, hexadecimal and exact.
//!
//! A value of any floating-point type is widened to binary64 (exact) and printed normalized, its fraction without
//! trailing zeros: `0x1.18p+6`, `-0x1p+0`, `0x0p+0`, `0x1p-149`, `inf`. Apple's programs show these forms; `nan`
//! (without a sign, as the BSD `printf` prints it) and the normalized form of binary64 subnormals were not seen in
//! one.

use std::fmt::Write as _;

use thiserror::Error;

const FRACTION_BITS: i64 = 52;
const FRACTION_MASK: u64 = (1 << FRACTION_BITS) - 1;
const MIN_EXPONENT: i64 = -1022;
const MAX_EXPONENT: i64 = 1023;

/// Why a number's text is not a binary64 value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FloatError {
    /// Not of the form `[-]0xH.HHHp±D`, a decimal number, `inf` or `nan`.
    #[error("not a floating-point number such as 0x1.8p+1, 1.5, inf or nan")]
    Malformed,
    /// More significant bits, or an exponent farther out, than binary64 holds.
    #[error("not exactly representable in 64-bit floating point")]
    Inexact,
}

/// Appends `value` in C's `%a` form.
pub fn write_hex(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("nan");
        return;
    }
    if value.is_sign_negative() {
        out.push('-');
    }
    if value.is_infinite() {
        out.push_str("inf");
        return;
    }
    let bits = value.abs().to_bits();
    if bits == 0 {
        out.push_str("0x0p+0");
        return;
    }
    let mut exponent = (bits >> FRACTION_BITS) as i64 - MAX_EXPONENT;
    let mut fraction = bits & FRACTION_MASK;
    if bits >> FRACTION_BITS == 0 {
        let shift = i64::from(fraction.leading_zeros()) - (63 - FRACTION_BITS);
        fraction = (fraction << shift) & FRACTION_MASK;
        exponent = MIN_EXPONENT - shift;
    }
    out.push_str("0x1");
    if fraction != 0 {
        let digits = 13 - fraction.trailing_zeros() / 4;
        let shown = fraction >> (4 * (13 - digits));
        let _ = write!(out, ".{shown:0width$x}", width = digits as usize);
    }
    let _ = write!(out, "p{exponent:+}");
}

/// Reads a floating-point number: hexadecimal (exact or refused), decimal (rounded to nearest), `inf` or `nan`.
pub fn parse(text: &str) -> Result<f64, FloatError> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = match magnitude {
        "inf" => f64::INFINITY,
        "nan" => return Ok(f64::NAN),
        _ => match magnitude.strip_prefix("0x") {
            Some(hex) => parse_hex(hex)?,
            None if magnitude.starts_with(|c: char| c.is_ascii_digit()) => {
                let value: f64 = magnitude.parse().map_err(|_| FloatError::Malformed)?;
                if value.is_infinite() {
                    return Err(FloatError::Inexact);
                }
                value
            }
            None => return Err(FloatError::Malformed),
        },
    };
    Ok(if negative { -value } else { value })
}

/// Reads what follows `0x`.
fn parse_hex(text: &str) -> Result<f64, FloatError> {
    let (digits, exponent) = text.split_once('p').ok_or(FloatError::Malformed)?;
    let exponent_digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if exponent_digits.is_empty() || !exponent_digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(FloatError::Malformed);
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(FloatError::Malformed);
    }

    // The value is `significand` × 2^`scale`.
    let mut significand = 0_u64;
    let mut scale = 0_i64;
    for (digit, after_point) in whole.chars().map(|c| (c, 0)).chain(fraction.chars().map(|c| (c, 4))) {
        let digit = u64::from(digit.to_digit(16).ok_or(FloatError::Malformed)?);
        if significand >> 60 == 0 {
            significand = significand << 4 | digit;
            scale -= after_point;
        } else if digit != 0 {
            return Err(FloatError::Inexact);
        } else {
            scale += 4 - after_point;
        }
    }
    if significand == 0 {
        return Ok(0.0);
    }
    let exponent: i64 = exponent.parse().map_err(|_| FloatError::Inexact)?;
    let zeros = i64::from(significand.trailing_zeros());
    let odd = significand >> zeros;
    let scale = scale.checked_add(exponent).and_then(|s| s.checked_add(zeros)).ok_or(FloatError::Inexact)?;
    assemble(odd, scale)
}

/// The binary64 number `odd` × 2^`scale`, if it is one.
fn assemble(odd: u64, scale: i64) -> Result<f64, FloatError> {
    let width = 64 - i64::from(odd.leading_zeros());
    let exponent = scale.saturating_add(width - 1);
    if width > FRACTION_BITS + 1 || exponent > MAX_EXPONENT {
        return Err(FloatError::Inexact);
    }
    if exponent >= MIN_EXPONENT {
        let fraction = (odd << (FRACTION_BITS + 1 - width)) & FRACTION_MASK;
        return Ok(f64::from_bits(((exponent + MAX_EXPONENT) as u64) << FRACTION_BITS | fraction));
    }
    let shift = scale.saturating_sub(MIN_EXPONENT - FRACTION_BITS);
    if shift < 0 {
        return Err(FloatError::Inexact);
    }
    Ok(f64::from_bits(odd << shift))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(value: f64) -> String {
        let mut out = String::new();
        write_hex(&mut out, value);
        out
    }

    #[test]
    fn prints_as_printf_a() {
        let table = [
            (70.0, "0x1.18p+6"),
            (-1.0, "-0x1p+0"),
            (0.0, "0x0p+0"),
            (-0.0, "-0x0p+0"),
            (f64::from(f32::from_bits(1)), "0x1p-149"),
            (0.1, "0x1.999999999999ap-4"),
            (f64::MAX, "0x1.fffffffffffffp+1023"),
            (f64::MIN_POSITIVE, "0x1p-1022"),
            (f64::from_bits(3), "0x1.8p-1073"),
            (f64::from_bits(1), "0x1p-1074"),
            (f64::from_bits(FRACTION_MASK), "0x1.ffffffffffffep-1023"),
            (1.0 + f64::EPSILON, "0x1.0000000000001p+0"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (-f64::NAN, "nan"),
        ];
        for (value, text) in table {
            assert_eq!(hex(value), text);
        }
    }

    #[test]
    fn reads_what_other_printers_write() {
        let table = [
            ("0x0.0000000000001p-1022", f64::from_bits(1)),
            ("0x10p-4", 1.0),
            ("0x1.000000000000000000000000p+0", 1.0),
            ("0x1000000000000000000p-72", 1.0),
            ("0x.8p1", 1.0),
            ("2.5", 2.5),
            ("-1e3", -1000.0),
            ("-inf", f64::NEG_INFINITY),
            ("0x0p+99999", 0.0),
        ];
        for (text, value) in table {
            assert_eq!(parse(text).map(f64::to_bits), Ok(value.to_bits()), "{text}");
        }
        assert!(parse("-nan").is_ok_and(f64::is_nan));
    }

    #[test]
    fn refuses_what_is_no_number_or_not_exact() {
        for text in
            ["", "-", "0x", "0xp+0", "0x1", "0x1p", "0x1p+", "0xgp+0", "0x1p+-1", "--1", "infinity", "+1"]
        {
            assert_eq!(parse(text), Err(FloatError::Malformed), "{text}");
        }
        for text in [
            "0x1.00000000000001p+0",
            "0x1p+1024",
            "0x1p-1075",
            "0x1.8p-1074",
            "0x1p+99999999999999999999999",
            "0x1p-9223372036854775808",
            "0x123456789abcdef012345p+0",
        ] {
            assert_eq!(parse(text), Err(FloatError::Inexact), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_value_survives(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            let back = parse(&hex(value)).unwrap();
            if value.is_nan() {
                prop_assert!(back.is_nan());
            } else {
                prop_assert_eq!(back.to_bits(), bits);
            }
        }
    }
}
