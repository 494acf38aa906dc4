//! Elements of inline tensors. Which field holds which element type is coremltools' choice: floats and doubles in
//! their own, 64-bit integers in `longInts`, 16- and 32-bit ones in `ints`, and the rest as little-endian bytes,
//! types narrower than a byte packed from the lowest bit up.

use coreml_proto::proto::mil_spec as pb;
use half::{bf16, f16};

use super::error::ProtoErrorKind;
use crate::program::{DataType, Literal, ValueType};

/// The elements of a tensor of type `ty`, whose element type is `dtype`.
pub(super) fn elements(
    ty: &ValueType,
    dtype: DataType,
    stored: &pb::TensorValue,
) -> Result<Literal, ProtoErrorKind> {
    use pb::tensor_value::Value as Pb;
    let storage = |found| ProtoErrorKind::Storage { ty: ty.to_string(), found };
    let literal = match &stored.value {
        Some(Pb::Bools(bools)) if dtype == DataType::Bool => Literal::Bool(bools.values.clone()),
        Some(Pb::Strings(strings)) if dtype == DataType::String => Literal::String(strings.values.clone()),
        Some(Pb::Floats(floats)) if dtype.is_float() => {
            Literal::Float(floats.values.iter().map(|&v| canonical(f64::from(v))).collect())
        }
        Some(Pb::Doubles(doubles)) if dtype.is_float() => {
            Literal::Float(doubles.values.iter().map(|&v| canonical(v)).collect())
        }
        Some(Pb::Ints(ints)) if dtype.is_integer() => {
            Literal::Int(ints.values.iter().map(|&v| i64::from(v)).collect())
        }
        Some(Pb::LongInts(ints)) if dtype.is_integer() => Literal::Int(ints.values.clone()),
        Some(Pb::Bytes(bytes)) if dtype.is_float() => Literal::Float(floats(dtype, &bytes.values)),
        Some(Pb::Bytes(bytes)) if dtype.is_integer() => {
            Literal::Int(integers(dtype, &bytes.values, ty.element_count()))
        }
        None => match dtype {
            DataType::Bool => Literal::Bool(Vec::new()),
            DataType::String => Literal::String(Vec::new()),
            _ if dtype.is_float() => Literal::Float(Vec::new()),
            _ => Literal::Int(Vec::new()),
        },
        Some(Pb::Bools(_)) => return Err(storage("bools")),
        Some(Pb::Strings(_)) => return Err(storage("strings")),
        Some(Pb::Floats(_)) => return Err(storage("floats")),
        Some(Pb::Doubles(_)) => return Err(storage("doubles")),
        Some(Pb::Ints(_)) => return Err(storage("ints")),
        Some(Pb::LongInts(_)) => return Err(storage("longInts")),
        Some(Pb::Bytes(_)) => return Err(storage("bytes")),
    };
    let bytes = match &stored.value {
        Some(Pb::Bytes(bytes)) => Some(bytes.values.len()),
        _ => None,
    };
    check(ty, dtype, bytes, &literal)?;
    Ok(literal)
}

/// Refuses too few or too many elements, bytes that are no whole number of elements, and integers out of range.
fn check(
    ty: &ValueType,
    dtype: DataType,
    bytes: Option<usize>,
    literal: &Literal,
) -> Result<(), ProtoErrorKind> {
    let found = match literal {
        Literal::Bool(elements) => elements.len(),
        Literal::String(elements) => elements.len(),
        Literal::Float(elements) => elements.len(),
        Literal::Int(elements) => elements.len(),
        _ => 0,
    };
    let bits = dtype.bits().unwrap_or(8) as usize;
    let whole = bytes.is_none_or(|bytes| (found * bits).div_ceil(8) == bytes);
    if !whole || ty.fixed_shape().is_some() && ty.element_count() != Some(found as u64) {
        return Err(ProtoErrorKind::Count { ty: ty.to_string(), found });
    }
    // Those of 64 unsigned bits keep their bits, whatever sign they then seem to have.
    if let (Literal::Int(elements), Some((low, high))) = (literal, dtype.integer_range())
        && dtype != DataType::UInt64
        && let Some(&value) = elements.iter().find(|&&v| !(low..=high).contains(&i128::from(v)))
    {
        return Err(ProtoErrorKind::Range { ty: ty.to_string(), value });
    }
    Ok(())
}

/// Text has one NaN, so a program has one.
fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

/// Floating-point numbers of `dtype`, little-endian; bytes of an element that is cut off are left out, which
/// [`check`] finds.
fn floats(dtype: DataType, bytes: &[u8]) -> Vec<f64> {
    let halves = || bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let elements: Vec<f64> = match dtype {
        DataType::Float16 => halves().map(|bits| f16::from_bits(bits).to_f64()).collect(),
        DataType::BFloat16 => halves().map(|bits| bf16::from_bits(bits).to_f64()).collect(),
        // The upper byte of a binary16.
        DataType::Float8E5M2 => bytes.iter().map(|&b| f16::from_bits(u16::from(b) << 8).to_f64()).collect(),
        DataType::Float8E4M3Fn => bytes.iter().copied().map(float8_e4m3fn).collect(),
        DataType::Float32 => {
            let words =
                bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]));
            words.map(f64::from).collect()
        }
        _ => bytes
            .chunks_exact(8)
            .filter_map(<[u8]>::first_chunk)
            .map(|word| f64::from_le_bytes(*word))
            .collect(),
    };
    elements.into_iter().map(canonical).collect()
}

/// One sign bit, four exponent bits with bias 7, three fraction bits; no infinities, and all ones is NaN (OCP 8-bit
/// floating-point specification).
fn float8_e4m3fn(byte: u8) -> f64 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f64::NAN,
        (0, _) => fraction * 2.0_f64.powi(-9),
        _ => (8.0 + fraction) * 2.0_f64.powi(exponent - 10),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

/// Integers of `dtype`, little-endian or packed. Packed bytes say how many there are only up to their padding, so
/// `count` (if known) does.
fn integers(dtype: DataType, bytes: &[u8], count: Option<u64>) -> Vec<i64> {
    let bits = dtype.bits().unwrap_or(8) as usize;
    let signed = dtype.integer_range().is_some_and(|(low, _)| low < 0);
    let stored = bytes.len() * 8 / bits;
    let count = match count {
        // Less than a byte of padding may follow.
        Some(count)
            if bits < 8
                && count.checked_mul(bits as u64).map(|b| b.div_ceil(8)) == Some(bytes.len() as u64) =>
        {
            count as usize
        }
        _ => stored,
    };
    (0..count.min(stored))
        .map(|index| {
            let first = index * bits;
            let mut element = 0_u64;
            // An element begins in the middle of a byte, or takes whole bytes.
            for (n, byte) in bytes.iter().skip(first / 8).take((first % 8 + bits).div_ceil(8)).enumerate() {
                let shifted = u128::from(*byte) << (8 * n) >> (first % 8);
                element |= shifted as u64;
            }
            let unused = 64 - bits as u32;
            let aligned = element << unused;
            if signed { aligned as i64 >> unused } else { (aligned >> unused) as i64 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pb::tensor_value::{RepeatedBytes, RepeatedFloats, RepeatedInts, Value as Pb};

    use super::*;

    fn read(dtype: DataType, extent: u64, stored: Pb) -> Result<Literal, ProtoErrorKind> {
        let ty = ValueType::tensor(dtype, &[extent]);
        elements(&ty, dtype, &pb::TensorValue { value: Some(stored) })
    }

    fn bytes(values: &[u8]) -> Pb {
        Pb::Bytes(RepeatedBytes { values: values.to_vec() })
    }

    #[test]
    fn bytes_hold_little_endian_and_packed_integers() {
        let table: [(DataType, &[u8], &[i64]); 10] = [
            (DataType::Int8, &[0xff, 0x7f], &[-1, 127]),
            (DataType::UInt8, &[0xff, 0x7f], &[255, 127]),
            (DataType::Int16, &[0xfe, 0xff], &[-2]),
            (DataType::UInt32, &[0xfe, 0xff, 0xff, 0xff], &[0xffff_fffe]),
            (DataType::Int64, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[-2]),
            (DataType::Int4, &[0x87, 0x0f], &[7, -8, -1]),
            (DataType::UInt4, &[0x87, 0x0f], &[7, 8, 15]),
            (DataType::UInt1, &[0b1010_0101, 1], &[1, 0, 1, 0, 0, 1, 0, 1, 1]),
            // 3 bits each: 1, 2, 3, 4, 5 from the lowest bit up.
            (DataType::UInt3, &[0b1101_0001, 0b0101_1000], &[1, 2, 3, 4, 5]),
            (DataType::UInt6, &[0b0100_0001, 0b0011_0000, 0b1111_1100], &[1, 1, 3, 63]),
        ];
        for (dtype, stored, expected) in table {
            let read = read(dtype, expected.len() as u64, bytes(stored));
            assert_eq!(read, Ok(Literal::Int(expected.to_vec())), "{dtype}");
        }
    }

    #[test]
    fn bytes_hold_floating_point_numbers() {
        let table: [(DataType, &[u8], f64); 10] = [
            (DataType::Float16, &[0x00, 0xc0], -2.0),
            (DataType::BFloat16, &[0x80, 0x3f], 1.0),
            (DataType::Float32, &[0, 0, 0x80, 0x3f], 1.0),
            (DataType::Float64, &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f], 1.0),
            (DataType::Float8E5M2, &[0x3c], 1.0),
            (DataType::Float8E4M3Fn, &[0x38], 1.0),
            (DataType::Float8E4M3Fn, &[0xfe], -448.0),
            (DataType::Float8E4M3Fn, &[0x01], 0.001_953_125),
            (DataType::Float8E4M3Fn, &[0x7f], f64::NAN),
            (DataType::Float16, &[0x01, 0xfe], f64::NAN),
        ];
        for (dtype, stored, expected) in table {
            assert_eq!(
                read(dtype, 1, bytes(stored)),
                Ok(Literal::Float(vec![expected])),
                "{dtype} {stored:?}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_its_type_is_refused() {
        use DataType::{Bool, Float16, Int4, Int8, Int32, UInt16};
        let ints = |values: &[i32]| Pb::Ints(RepeatedInts { values: values.to_vec() });
        assert!(matches!(read(Float16, 2, bytes(&[0; 5])), Err(ProtoErrorKind::Count { found: 2, .. })));
        assert!(matches!(read(Float16, 3, bytes(&[0; 5])), Err(ProtoErrorKind::Count { found: 2, .. })));
        assert!(matches!(read(Int4, 3, bytes(&[0; 3])), Err(ProtoErrorKind::Count { found: 6, .. })));
        assert!(matches!(read(Int4, u64::MAX, bytes(&[0; 3])), Err(ProtoErrorKind::Count { found: 6, .. })));
        assert!(matches!(read(Int32, 1, ints(&[])), Err(ProtoErrorKind::Count { found: 0, .. })));
        assert!(matches!(read(Int8, 1, ints(&[128])), Err(ProtoErrorKind::Range { value: 128, .. })));
        assert!(matches!(read(UInt16, 1, ints(&[-1])), Err(ProtoErrorKind::Range { value: -1, .. })));
        assert!(matches!(read(Bool, 1, ints(&[1])), Err(ProtoErrorKind::Storage { found: "ints", .. })));
        let floats = Pb::Floats(RepeatedFloats { values: vec![1.0] });
        assert!(matches!(read(Int32, 1, floats), Err(ProtoErrorKind::Storage { found: "floats", .. })));
    }
}
