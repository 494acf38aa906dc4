//! From stored blocks to f32 weights.
//!
//! Each kernel repeats the arithmetic of gguf-py's `gguf.quants` operation by operation (the same products and sums of
//! f32, in the same order, never fused), so that results are equal bit for bit. Every loop has a fixed length, which
//! the compiler turns into vector code: for every machine, and again for wider vectors. Hence `inline(always)`: a function that is
//! called and not inlined would be compiled for every machine only.
#![allow(clippy::inline_always)]

mod halves;
mod iq4;
mod kquant;
mod legacy;
mod plain;
mod wide;

pub(crate) use halves::narrow;
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
    pub(crate) to_f32: Reader,
}

/// Reads whole blocks into as many weights.
type Reader = fn(&[u8], &mut [f32]);

/// The readers of one type, which give the same bits.
struct Readers {
    /// For every machine.
    plain: Reader,
    /// For wider vectors, where this machine has them.
    wide: Option<Reader>,
}

/// Both readers of blocks by `$block`. They are compiled from the same lines, of which no operation is ever fused or reordered.
macro_rules! readers {
    ($block:path) => {{
        fn plain(bytes: &[u8], out: &mut [f32]) {
            blocks(bytes, out, $block);
        }
        Readers { plain, wide: wide::reader!($block) }
    }};
}

/// The kernel for `dtype`, if there is one.
pub(crate) fn kernel(dtype: TensorType) -> Option<Kernel> {
    let Readers { plain, wide } = readers(dtype)?;
    let block_len = usize::try_from(dtype.block_len()?).ok()?;
    let block_bytes = usize::try_from(dtype.block_bytes()?).ok()?;
    Some(Kernel { block_len, block_bytes, to_f32: wide.unwrap_or(plain) })
}

fn readers(dtype: TensorType) -> Option<Readers> {
    let one_by_one = |plain| Readers { plain, wide: None };
    Some(match dtype {
        TensorType::F32 => one_by_one(plain::f32),
        TensorType::F16 => one_by_one(plain::f16),
        TensorType::BF16 => one_by_one(plain::bf16),
        TensorType::Q4_0 => readers!(legacy::q4_0),
        TensorType::Q4_1 => readers!(legacy::q4_1),
        TensorType::Q5_0 => readers!(legacy::q5_0),
        TensorType::Q5_1 => readers!(legacy::q5_1),
        TensorType::Q8_0 => readers!(legacy::q8_0),
        TensorType::Q2_K => readers!(kquant::q2_k),
        TensorType::Q3_K => readers!(kquant::q3_k),
        TensorType::Q4_K => readers!(kquant::q4_k),
        TensorType::Q5_K => readers!(kquant::q5_k),
        TensorType::Q6_K => readers!(kquant::q6_k),
        TensorType::IQ4_NL => readers!(iq4::iq4_nl),
        TensorType::IQ4_XS => readers!(iq4::iq4_xs),
        _ => return None,
    })
}

/// Reads blocks of `BYTES` bytes into `LEN` weights each.
#[inline(always)]
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
#[inline(always)]
fn scale(low: u8, high: u8) -> f32 {
    half::f16::from_le_bytes([low, high]).to_f32()
}

#[cfg(test)]
mod tests {
    use anepipe_testkit::SplitMix64;

    use super::*;

    /// On random bytes, which hold every number and scales that are infinite, NaN and subnormal.
    #[test]
    fn readers_for_wider_vectors_give_the_same_bits() {
        for dtype in TensorType::known() {
            let Some(Readers { plain, wide: Some(wide) }) = readers(dtype) else { continue };
            let (len, bytes) = (dtype.block_len().unwrap() as usize, dtype.block_bytes().unwrap() as usize);
            let blocks = 4096;
            let content = SplitMix64::new(u64::from(dtype.id())).bytes(blocks * bytes);
            let read = |reader: Reader| {
                let mut out = vec![1.0; blocks * len];
                reader(&content, &mut out);
                // Which of two NaN goes through a sum is not fixed.
                let bits = |weight: f32| if weight.is_nan() { u32::MAX } else { weight.to_bits() };
                out.into_iter().map(bits).collect::<Vec<_>>()
            };
            assert!(read(plain) == read(wide), "{dtype}");
        }
    }
}
