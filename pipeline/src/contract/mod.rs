//! The model contract: every number a build needs, each with the GGUF key it came from.
//!
//! A model whose numbers are slightly wrong still runs, passes every check against itself, and writes nonsense. So
//! nothing here has a default: a number comes from a key or from the shape of a tensor, its source is kept beside it,
//! and every number that a second source can confirm is held against it. A key may be absent only where the GGUF
//! specification says what its absence means; the source then says what was used in its place.

mod architecture;
mod error;
mod keys;
mod layout;
mod read;
mod rope;
mod tokenizer;

use serde::{Deserialize, Serialize};

pub use architecture::{Architecture, RotaryPairs};
pub use error::{ContractError, ExitClass};
pub use layout::{EMBEDDING, Matrix, OUTPUT_NORM, Part, layer_matrices, layer_norms};
pub use tokenizer::Tokenizer;

/// A value and where it came from: a metadata key, a tensor, or a short expression of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: String,
}

impl<T> Sourced<T> {
    /// A value from there.
    pub fn new(value: T, source: impl Into<String>) -> Self {
        Self { value, source: source.into() }
    }
}

/// Where the logits' weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// They are the embedding's.
    Tied,
    /// They are a tensor of their own.
    Separate,
}

/// Everything a build needs to know of a model. `contract.json` is this, as JSON.
///
/// Made by [`Contract::read`], which checks what is said with each field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contract {
    /// Version of this form.
    pub schema: u32,
    /// The family of models, which decides tensor names and the order of rotary pairs.
    pub architecture: Sourced<Architecture>,
    /// Positions the shards will have (S); from 1 to `context_length`.
    pub context: u32,
    /// Positions the model can take.
    pub context_length: Sourced<u32>,
    /// Width of the residual stream (d).
    pub hidden: Sourced<u32>,
    /// Layers.
    pub layers: Sourced<u32>,
    /// Query heads.
    pub heads: Sourced<u32>,
    /// Key and value heads; divides `heads`.
    pub kv_heads: Sourced<u32>,
    /// Width of a head.
    pub head_dim: Sourced<u32>,
    /// Width of the feed-forward block.
    pub ffn: Sourced<u32>,
    /// Tokens: rows of the embedding.
    pub vocab: Sourced<u32>,
    /// ε of `RMSNorm`; finite, above 0.
    pub norm_eps: Sourced<f32>,
    /// Rotated dims of a head, the first ones; even, at most `head_dim`.
    pub rope_dim: Sourced<u32>,
    /// Base of the rotary frequencies; finite, above 0.
    pub rope_base: Sourced<f32>,
    /// What each frequency is divided by, `rope_dim / 2` values; none = 1. Chosen for `context`.
    pub rope_factors: Sourced<Option<Vec<f32>>>,
    /// Positions before the factors for long contexts apply; none = the file does not say, and has no such factors.
    pub original_context: Sourced<Option<u32>>,
    /// What cosines and sines are multiplied by; finite, above 0.
    pub attn_factor: Sourced<f32>,
    /// Positions a token sees; none = all. At least `context`.
    pub sliding_window: Sourced<Option<u32>>,
    /// Where the logits' weights are.
    pub head: Sourced<Head>,
    /// How text becomes tokens.
    pub tokenizer: Tokenizer,
}

impl Contract {
    /// The version of `contract.json`.
    pub const SCHEMA: u32 = 1;

    /// `contract.json`: the same bytes for the same contract.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// The name of the tensor with the logits' weights.
    pub fn head_tensor(&self) -> &'static str {
        match self.head.value {
            Head::Tied => layout::EMBEDDING,
            Head::Separate => layout::HEAD,
        }
    }

    /// Rows of the fused query, key and value weights.
    pub fn qkv_rows(&self) -> u64 {
        let heads = u64::from(self.heads.value) + 2 * u64::from(self.kv_heads.value);
        heads.saturating_mul(u64::from(self.head_dim.value))
    }
}

#[cfg(test)]
pub(crate) mod tests;
