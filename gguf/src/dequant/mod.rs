//! From stored blocks to f32 weights.
//!
//! Each kernel repeats the arithmetic of gguf-py's `gguf.quants` operation by operation (the same products and sums of
//! f32, in the same order, never fused), so that results are equal bit for bit. Every loop has a fixed length, which
//! the compiler turns into vector code.

mod iq4;
mod kquant;
mod legacy;
mod plain;

pub(crate) use plain::f16_to_f16;

use crate::TensorType;

/// How to read one type.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    /// Weights in a block.
    pub(crate) block_len: usize,
    /// Bytes in a block.
    pub(crate) block_bytes: usize,
    /// Reads whole blocks into as many weights.
    pub(crate) to_f32: fn(&[u8], &mut [f32]),
}

/// The kernel for `dtype`, if there is one.
pub(crate) fn kernel(dtype: TensorType) -> Option<Kernel> {
    let to_f32: fn(&[u8], &mut [f32]) = match dtype {
        TensorType::F32 => plain::f32,
        TensorType::F16 => plain::f16,
        TensorType::BF16 => plain::bf16,
        TensorType::Q4_0 => |bytes, out| blocks(bytes, out, legacy::q4_0),
        TensorType::Q4_1 => |bytes, out| blocks(bytes, out, legacy::q4_1),
        TensorType::Q5_0 => |bytes, out| blocks(bytes, out, legacy::q5_0),
        TensorType::Q5_1 => |bytes, out| blocks(bytes, out, legacy::q5_1),
        TensorType::Q8_0 => |bytes, out| blocks(bytes, out, legacy::q8_0),
        TensorType::Q2_K => |bytes, out| blocks(bytes, out, kquant::q2_k),
        TensorType::Q3_K => |bytes, out| blocks(bytes, out, kquant::q3_k),
        TensorType::Q4_K => |bytes, out| blocks(bytes, out, kquant::q4_k),
        TensorType::Q5_K => |bytes, out| blocks(bytes, out, kquant::q5_k),
        TensorType::Q6_K => |bytes, out| blocks(bytes, out, kquant::q6_k),
        TensorType::IQ4_NL => |bytes, out| blocks(bytes, out, iq4::iq4_nl),
        TensorType::IQ4_XS => |bytes, out| blocks(bytes, out, iq4::iq4_xs),
        _ => return None,
    };
    let block_len = usize::try_from(dtype.block_len()?).ok()?;
    let block_bytes = usize::try_from(dtype.block_bytes()?).ok()?;
    Some(Kernel { block_len, block_bytes, to_f32 })
}

/// Reads blocks of `BYTES` bytes into `LEN` weights each.
fn blocks<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (bytes, _) = bytes.as_chunks::<BYTES>();
    let (out, _) = out.as_chunks_mut::<LEN>();
    for (bytes, out) in bytes.iter().zip(out) {
        block(bytes, out);
    }
}

/// The f16 that stands little-endian in `low` and `high`, as f32.
fn scale(low: u8, high: u8) -> f32 {
    half::f16::from_le_bytes([low, high]).to_f32()
}
