//! A model file → safetensors files, one for each part of a build.
//!
//! | function | tensors |
//! |---|---|
//! | [`extract_layer`] | `attn_norm` F32 `[d]`, `qkv` F16 `[(heads + 2 · kv_heads) · head_dim, d]`, `attn_output` F16 `[d, heads · head_dim]`, `ffn_norm` F32 `[d]`, `gate_up` F16 `[2 · ffn, d]`, gate first, `down` F16 `[d, ffn]` |
//! | [`extract_embedding`] | `embedding` F16 `[vocab, d]` |
//! | [`extract_token_embeddings`] | `hidden` F16 `[tokens, d]` |
//! | [`extract_output_norm`] | `output_norm` F32 `[d]` |
//! | [`extract_head`] | `lm_head` F16 `[rows, d]` |
//! | [`extract_tokenizer`] | none: JSON, see there |
//!
//! Whatever the architecture, a layer comes out in this one form; query and key rows are in NEOX order, so that rotary
//! pairs are `i` and `i + n/2`. Rotary factors need no extraction: the contract holds them.
//!
//! Weights pass through in pieces of rows, on all threads; memory does not grow with a tensor. A weight that is not
//! finite, or not in fp16, is an error: nothing downstream could tell it from a large one.

mod error;
mod rows;
mod tokenizer;

use std::ops::Range;
use std::path::Path;

use anepipe_gguf::Gguf;

use crate::contract::{self, Contract};
pub use error::ExtractError;
use rows::{Plan, Source};
pub use tokenizer::{extract_tokenizer, tokenizer_digest};

/// Writes layer `layer` of the model.
pub fn extract_layer(
    gguf: &Gguf,
    contract: &Contract,
    layer: u32,
    output: &Path,
) -> Result<(), ExtractError> {
    let layers = contract.layers.value;
    if layer >= layers {
        return Err(ExtractError::out_of_range("layer", layer.into(), layers.into()));
    }
    let mut plan = Plan::new(gguf, contract);
    for (name, tensor) in contract::layer_norms(layer) {
        plan.vector(name, &tensor)?;
    }
    for matrix in contract::layer_matrices(contract, layer) {
        let sources = matrix.parts.into_iter().map(Source::from).collect();
        plan.matrix(matrix.name, matrix.columns, sources)?;
    }
    plan.write(output)
}

/// Writes the whole embedding.
pub fn extract_embedding(gguf: &Gguf, contract: &Contract, output: &Path) -> Result<(), ExtractError> {
    let mut plan = Plan::new(gguf, contract);
    let rows = 0..contract.vocab.value.into();
    plan.matrix("embedding", contract.hidden.value.into(), vec![Source::new(contract::EMBEDDING, rows)])?;
    plan.write(output)
}

/// Writes the embeddings of some tokens, in their order.
pub fn extract_token_embeddings(
    gguf: &Gguf,
    contract: &Contract,
    tokens: &[u32],
    output: &Path,
) -> Result<(), ExtractError> {
    let vocab = contract.vocab.value;
    if let Some(token) = tokens.iter().find(|token| **token >= vocab) {
        return Err(ExtractError::out_of_range("token", (*token).into(), vocab.into()));
    }
    let mut plan = Plan::new(gguf, contract);
    let rows = tokens.iter().map(|token| u64::from(*token));
    let sources = rows.map(|row| Source::new(contract::EMBEDDING, row..row + 1)).collect();
    plan.matrix("hidden", contract.hidden.value.into(), sources)?;
    plan.write(output)
}

/// Writes the norm before the logits.
pub fn extract_output_norm(gguf: &Gguf, contract: &Contract, output: &Path) -> Result<(), ExtractError> {
    let mut plan = Plan::new(gguf, contract);
    plan.vector("output_norm", contract::OUTPUT_NORM)?;
    plan.write(output)
}

/// Writes the logits' weights of the tokens `rows`, from the separate head or, where it is tied, the embedding.
pub fn extract_head(
    gguf: &Gguf,
    contract: &Contract,
    rows: Range<u32>,
    output: &Path,
) -> Result<(), ExtractError> {
    let vocab = contract.vocab.value;
    if rows.end > vocab {
        return Err(ExtractError::out_of_range("token", u64::from(rows.end) - 1, vocab.into()));
    }
    let mut plan = Plan::new(gguf, contract);
    let rows = u64::from(rows.start)..u64::from(rows.end);
    plan.matrix("lm_head", contract.hidden.value.into(), vec![Source::new(contract.head_tensor(), rows)])?;
    plan.write(output)
}

#[cfg(test)]
mod tests;
