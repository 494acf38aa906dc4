//! Which tensors a model has, and what they become.
//!
//! Extraction turns the tensors of any architecture into the same few: a layer has two norms and four matrices, whose
//! rows are rows of one or more tensors of the file, in order.

use super::{Architecture, Contract};

/// Rows are tokens; always there.
pub const EMBEDDING: &str = "token_embd.weight";
/// The norm before the logits; always there.
pub const OUTPUT_NORM: &str = "output_norm.weight";
/// The logits' weights; absent when they are the embedding's.
pub(super) const HEAD: &str = "output.weight";
/// Divisors of the rotary frequencies whatever the context.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";
/// Divisors of the rotary frequencies for contexts beyond the original one.
pub(super) const ROPE_LONG: &str = "rope_factors_long.weight";
/// Divisors of the rotary frequencies for contexts up to the original one.
pub(super) const ROPE_SHORT: &str = "rope_factors_short.weight";

/// Rows that come from one tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The tensor.
    pub tensor: String,
    /// Its rows.
    pub rows: u64,
    /// Whether the rows of each head are to be put from [`Norm`](super::RotaryPairs::Norm)
    /// order into [`Neox`](super::RotaryPairs::Neox).
    pub permuted: bool,
    /// Where the number of rows comes from.
    pub why: &'static str,
}

/// A matrix of a layer, `[rows, columns]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    /// Name after extraction.
    pub name: &'static str,
    /// Where its rows come from, in order.
    pub parts: Vec<Part>,
    /// Columns: inputs.
    pub columns: u64,
}

impl Matrix {
    /// Rows: output channels.
    pub fn rows(&self) -> u64 {
        self.parts.iter().fold(0, |rows, part| rows.saturating_add(part.rows))
    }
}

/// The norms of layer `layer`: the name after extraction and the tensor of the file.
pub fn layer_norms(layer: u32) -> [(&'static str, String); 2] {
    ["attn_norm", "ffn_norm"].map(|name| (name, format!("blk.{layer}.{name}.weight")))
}

/// The matrices of layer `layer`.
pub fn layer_matrices(contract: &Contract, layer: u32) -> [Matrix; 4] {
    let hidden = u64::from(contract.hidden.value);
    let ffn = u64::from(contract.ffn.value);
    let head_dim = u64::from(contract.head_dim.value);
    let q_rows = u64::from(contract.heads.value).saturating_mul(head_dim);
    let kv_rows = u64::from(contract.kv_heads.value).saturating_mul(head_dim);

    let part = |name: &str, rows, why| Part {
        tensor: format!("blk.{layer}.{name}.weight"),
        rows,
        permuted: false,
        why,
    };
    let norm = |name: &str, rows, why| Part { permuted: true, ..part(name, rows, why) };
    let (qkv, gate_up) = match contract.architecture.value {
        Architecture::Phi3 => (
            vec![part("attn_qkv", contract.qkv_rows(), "(heads + 2 · KV heads) · head width, by hidden")],
            vec![part("ffn_up", 2 * ffn, "gate and up, each the feed-forward length, by hidden")],
        ),
        Architecture::Llama => (
            vec![
                norm("attn_q", q_rows, "heads · head width, by hidden"),
                norm("attn_k", kv_rows, "KV heads · head width, by hidden"),
                part("attn_v", kv_rows, "KV heads · head width, by hidden"),
            ],
            vec![
                part("ffn_gate", ffn, "feed-forward length, by hidden"),
                part("ffn_up", ffn, "feed-forward length, by hidden"),
            ],
        ),
    };
    [
        Matrix { name: "qkv", parts: qkv, columns: hidden },
        Matrix {
            name: "attn_output",
            parts: vec![part("attn_output", hidden, "hidden, by heads · head width")],
            columns: q_rows,
        },
        Matrix { name: "gate_up", parts: gate_up, columns: hidden },
        Matrix {
            name: "down",
            parts: vec![part("ffn_down", hidden, "hidden, by feed-forward length")],
            columns: ffn,
        },
    ]
}
