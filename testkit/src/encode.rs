//! Stores weights in the types that synthetic models use, with the same arithmetic as gguf-py's `quantize`.

use half::f16;

/// A way to store weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 32 weights to a block: an f16 scale and 8 bits each.
    Q8_0,
    /// 32 weights to a block: an f16 scale and 4 bits each.
    Q4_0,
}

/// Weights to a block of Q8_0 and Q4_0.
const BLOCK: usize = 32;

impl Encoding {
    /// The number of the type in ggml.
    #[must_use]
    pub fn type_id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
        }
    }

    /// The number that `general.file_type` gives to a model that is mostly of this type (`llama_ftype` of llama.cpp).
    #[must_use]
    pub fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
        }
    }

    /// The encoding called `name`: "f32", "f16", `q8_0` or `q4_0`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "f32" => Self::F32,
            "f16" => Self::F16,
            "q8_0" => Self::Q8_0,
            "q4_0" => Self::Q4_0,
            _ => return None,
        })
    }

    /// Weights to a block: a row holds whole blocks.
    #[must_use]
    pub fn block_len(self) -> u64 {
        match self {
            Self::F32 | Self::F16 => 1,
            Self::Q8_0 | Self::Q4_0 => BLOCK as u64,
        }
    }

    /// Bytes of a row of `row_len` weights, a multiple of the block.
    #[must_use]
    pub fn row_bytes(self, row_len: u64) -> u64 {
        match self {
            Self::F32 => row_len * 4,
            Self::F16 => row_len * 2,
            Self::Q8_0 => row_len / BLOCK as u64 * 34,
            Self::Q4_0 => row_len / BLOCK as u64 * 18,
        }
    }

    /// Appends `weights`, whole blocks of them.
    pub fn encode(self, weights: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => weights.iter().for_each(|w| out.extend(w.to_le_bytes())),
            Self::F16 => weights.iter().for_each(|&w| out.extend(f16::from_f32(w).to_le_bytes())),
            Self::Q8_0 => weights.as_chunks().0.iter().for_each(|block| out.extend(q8_0(block))),
            Self::Q4_0 => weights.as_chunks().0.iter().for_each(|block| out.extend(q4_0(block))),
        }
    }
}

/// Scale: the largest magnitude over 127. Quants: rounded to nearest, halves away from zero.
fn q8_0(weights: &[f32; BLOCK]) -> [u8; 34] {
    let d = largest(weights).abs() / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let mut block = [0; 34];
    let (scale, quants) = block.split_at_mut(2);
    scale.copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (q, &w) in quants.iter_mut().zip(weights) {
        let scaled = w * inverse;
        let whole = scaled.abs() as i32;
        let magnitude = whole + i32::from(scaled.abs() - whole as f32 >= 0.5);
        *q = (if scaled < 0.0 { -magnitude } else { magnitude }) as i8 as u8;
    }
    block
}

/// Scale: the weight of largest magnitude over −8, so that it becomes quant 0. Quants: cut off after adding 8.5.
fn q4_0(weights: &[f32; BLOCK]) -> [u8; 18] {
    let d = largest(weights) / -8.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let quant = |w: f32| ((w * inverse + 8.5) as u8).min(15);
    let mut block = [0; 18];
    let (scale, quants) = block.split_at_mut(2);
    scale.copy_from_slice(&f16::from_f32(d).to_le_bytes());
    let (low, high) = weights.split_at(BLOCK / 2);
    for ((q, &low), &high) in quants.iter_mut().zip(low).zip(high) {
        *q = quant(low) | quant(high) << 4;
    }
    block
}

/// The first weight of largest magnitude; NaN if there is one, so that its block is NaN too.
fn largest(weights: &[f32; BLOCK]) -> f32 {
    // Magnitudes compare as their bits do, NaN above all, and integers leave the order of comparing to the compiler.
    let magnitude = |w: f32| (w.to_bits() & 0x7fff_ffff) as i32;
    let largest = weights.iter().fold(0, |max, &w| max.max(magnitude(w)));
    weights.iter().copied().find(|&w| magnitude(w) == largest).unwrap_or_default()
}
