//! `coremldata.bin`: what Core ML reads first, the model's description behind a small header.
//!
//! Little-endian: u32 502, u32 format, 20 zeros, u64 7 and `generic`, u32 specification version, 28 zeros, u64 length
//! and the bytes of `Model.description`, then per function u32 502 and 12 zeros. Layout found by comparison with
//! Apple's output; the description stands there as in the package, but with an empty metadata message if it has none.

use crate::proto::ModelSpec;

/// The tag of `Model.mlProgram` in the protobuf, and of an ML Program here.
const ML_PROGRAM: u32 = 502;

/// `ModelDescription.metadata` (field 100, length-delimited), empty.
const EMPTY_METADATA: [u8; 3] = [0xa2, 0x06, 0x00];

pub(super) fn bytes(model: &ModelSpec) -> Vec<u8> {
    let mut description = model.description_bytes.clone();
    if model.description.metadata.is_none() {
        description.extend_from_slice(&EMPTY_METADATA);
    }
    let mut out = Vec::with_capacity(description.len() + 128);
    out.extend_from_slice(&ML_PROGRAM.to_le_bytes());
    out.extend_from_slice(&format_version(model.specification_version).to_le_bytes());
    out.extend_from_slice(&[0; 20]);
    out.extend_from_slice(&7_u64.to_le_bytes());
    out.extend_from_slice(b"generic");
    out.extend_from_slice(&model.specification_version.to_le_bytes());
    out.extend_from_slice(&[0; 28]);
    out.extend_from_slice(&(description.len() as u64).to_le_bytes());
    out.extend_from_slice(&description);
    // A model without a list of functions has one, `main`.
    for _ in 0..model.description.functions.len().max(1) {
        out.extend_from_slice(&ML_PROGRAM.to_le_bytes());
        out.extend_from_slice(&[0; 12]);
    }
    out
}

/// 5 up to specification version 7, then the version itself.
fn format_version(specification_version: i32) -> i32 {
    if specification_version <= 7 { 5 } else { specification_version }
}
