//! The outermost fields of a model's protobuf, cut without decoding them.

use super::error::{ProtoError, ProtoErrorKind};

/// `Model.description`.
const DESCRIPTION_FIELD: u64 = 2;

/// The bytes of `Model.description` as they stand in the file. Field order, map order and fields that no schema here
/// knows stay as they are. If the field is there several times, protobuf merges the messages, which is what joining
/// their bytes does.
pub(super) fn description(bytes: &[u8]) -> Result<Vec<u8>, ProtoError> {
    let mut description = Vec::new();
    let mut position = 0;
    while position < bytes.len() {
        let start = position;
        let damaged = || ProtoErrorKind::DamagedAt(start).at("the model");
        let tag = varint(bytes, &mut position).ok_or_else(damaged)?;
        let length = match tag & 7 {
            0 => {
                varint(bytes, &mut position).ok_or_else(damaged)?;
                0
            }
            1 => 8,
            2 => varint(bytes, &mut position).ok_or_else(damaged)?,
            5 => 4,
            _ => return Err(damaged()),
        };
        let end = usize::try_from(length).ok().and_then(|length| position.checked_add(length));
        let content = end.and_then(|end| bytes.get(position..end)).ok_or_else(damaged)?;
        if tag == DESCRIPTION_FIELD << 3 | 2 {
            description.extend_from_slice(content);
        }
        position += content.len();
    }
    Ok(description)
}

fn varint(bytes: &[u8], position: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*position)?;
        *position += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_description_is_cut_out() {
        // Field 1 = 300 (varint), field 2 = "ab", field 9 = 4 bytes, field 2 = "c", field 500 = "" (two-byte tag).
        let bytes = b"\x08\xac\x02\x12\x02ab\x4d\0\0\0\0\x12\x01c\xa2\x1f\0";
        assert_eq!(description(bytes), Ok(b"abc".to_vec()));
    }

    #[test]
    fn the_first_field_that_does_not_fit_is_named() {
        for bytes in [
            &b"\x08\x01\x12\x05ab"[..],
            b"\x08\x01\x12",
            b"\x08\x01\xff",
            b"\x08\x01\x0b",
            b"\x08\x01\x09abc",
        ] {
            assert_eq!(
                description(bytes).map_err(|e| e.kind),
                Err(ProtoErrorKind::DamagedAt(2)),
                "{bytes:?}"
            );
        }
        let endless = [&b"\x12"[..], &[0xff; 12]].concat();
        assert_eq!(description(&endless).map_err(|e| e.kind), Err(ProtoErrorKind::DamagedAt(0)));
    }
}
