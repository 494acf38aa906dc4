//! What the gate demands.

use serde::{Deserialize, Serialize};

/// Limits as a project states them (`[gates.parity]` in `anepipe.toml`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParityThresholds {
    /// Least cosine, of every token, between hidden states.
    pub per_token_cos: f64,
    /// Least cosine, of every token, between what the shard added to the hidden states.
    pub update_per_token_cos: f64,
    /// Whether every bit must be equal. Not stated: on devices whose arithmetic fixes the order of every sum, so that equality is
    /// to be expected; `portable` is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_exact: Option<bool>,
}

impl Default for ParityThresholds {
    /// 0.999 for both cosines: positions mixed into channels give updates of 0.3 to 0.8, a different order of summation 0.999999.
    fn default() -> Self {
        Self { per_token_cos: 0.999, update_per_token_cos: 0.999, bit_exact: None }
    }
}

impl ParityThresholds {
    /// What is demanded on `device`.
    pub fn limits(&self, device: &str) -> Limits {
        Limits {
            per_token_cos: self.per_token_cos,
            update_per_token_cos: self.update_per_token_cos,
            bit_exact: self.bit_exact.unwrap_or(device == "portable"),
        }
    }
}

/// Limits as a report records them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Least cosine of a token's hidden state.
    pub per_token_cos: f64,
    /// Least cosine of a token's update.
    pub update_per_token_cos: f64,
    /// Whether every bit must be equal.
    pub bit_exact: bool,
}
