//! Rotary position rows, computed on the host and handed to every pass.
//!
//! A graph only multiplies by what it is given, so the rotary width, `LongRoPE`'s factors and the attention factor are decided
//! here and nowhere else. The layout is `NeoX`: entry `i` rotates element `i` with element `i + rope_dim / 2`; models that pair
//! neighbours instead have their weights permuted when the shard is built.
//!
//! Angles are computed in f64 with [`libm`], which is the same code on every machine, and each result is rounded to fp16 once:
//! equal bundles get equal bits whatever the machine's own mathematics library does.

use half::f16;
use serde::{Deserialize, Serialize};

use crate::portable::arith::half::round_f64;

/// What a model's rotary embedding is made of, as its file states it. Raw: [`Rope::new`] validates it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RopeSpec {
    /// Elements of a head that are rotated, at most the head's width (96 of 128 for Phi-4-mini).
    pub rope_dim: usize,
    /// Base of the frequencies.
    pub base: f32,
    /// One divisor per frequency, `rope_dim / 2` of them: `LongRoPE`'s short or long factors, whichever the context asks for,
    /// or Llama's `rope_freqs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factors: Option<Vec<f32>>,
    /// Multiplies every cosine and sine; 1 when the model has none.
    pub attn_factor: f32,
}

/// No head is wider. A manifest may claim any width, and rows are allocated by it.
pub const MAX_ROPE_DIM: usize = 1 << 16;

/// Why a [`RopeSpec`] cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RopeError {
    /// The rotated elements do not form pairs, or are more than any head has.
    #[error(
        "rotary width {0} is not an even number from 2 to {MAX_ROPE_DIM}: take it from the model's rope.dimension_count"
    )]
    Width(usize),
    /// The base gives no decreasing frequencies.
    #[error("rotary base {0} is not a finite number above zero: take it from the model's rope.freq_base")]
    Base(f32),
    /// Factors and frequencies do not match.
    #[error(
        "{found} rotary factors for a rotary width of {rope_dim}, which needs {}: \
         width and factors must come from the same model",
        rope_dim / 2
    )]
    FactorCount {
        /// Factors given.
        found: usize,
        /// The rotary width.
        rope_dim: usize,
    },
    /// A factor that cannot divide a frequency.
    #[error("rotary factor {index} is {value}, not a finite number above zero: the model file is damaged")]
    Factor {
        /// Which one.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// Cosines of this scale do not fit fp16.
    #[error("rotary attention factor {0} is not a number above zero that fp16 can hold")]
    AttnFactor(f32),
}

/// A validated rotary embedding, ready to give rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    frequencies: Vec<f64>,
    attn_factor: f64,
}

impl Rope {
    /// Checks `spec` and derives its frequencies: `base^(-2i / rope_dim) / factors[i]`.
    pub fn new(spec: &RopeSpec) -> Result<Self, RopeError> {
        let RopeSpec { rope_dim, base, ref factors, attn_factor } = *spec;
        if rope_dim == 0 || rope_dim % 2 != 0 || rope_dim > MAX_ROPE_DIM {
            return Err(RopeError::Width(rope_dim));
        }
        if !(base.is_finite() && base > 0.0) {
            return Err(RopeError::Base(base));
        }
        if !(attn_factor > 0.0 && attn_factor <= f16::MAX.to_f32()) {
            return Err(RopeError::AttnFactor(attn_factor));
        }
        if let Some(found) = factors.as_ref().map(Vec::len).filter(|&found| found != rope_dim / 2) {
            return Err(RopeError::FactorCount { found, rope_dim });
        }
        let factor = |i: usize| factors.as_ref().and_then(|factors| factors.get(i)).copied().unwrap_or(1.0);
        let frequencies = (0..rope_dim / 2)
            .map(|index| {
                let value = factor(index);
                if !(value.is_finite() && value > 0.0) {
                    return Err(RopeError::Factor { index, value });
                }
                let exponent = -2.0 * index as f64 / rope_dim as f64;
                Ok(libm::pow(f64::from(base), exponent) / f64::from(value))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { frequencies, attn_factor: f64::from(attn_factor) })
    }

    /// Frequencies, and so entries of a row: `rope_dim / 2`.
    pub fn half_dim(&self) -> usize {
        self.frequencies.len()
    }

    /// The row of `position`: `half_dim` pairs of (cosine, sine), scaled by the attention factor.
    pub fn row(&self, position: usize) -> impl ExactSizeIterator<Item = (f16, f16)> + '_ {
        self.frequencies.iter().map(move |frequency| {
            let angle = position as f64 * frequency;
            (round_f64(libm::cos(angle) * self.attn_factor), round_f64(libm::sin(angle) * self.attn_factor))
        })
    }
}

#[cfg(test)]
mod tests;
