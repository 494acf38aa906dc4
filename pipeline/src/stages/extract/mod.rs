//! A model file → weights in one form, and safetensors files of those that ship as they are.
//!
//! | function | weights |
//! |---|---|
//! | [`layer`] | `attn_norm` `[d]`, `qkv` `[(heads + 2 · kv_heads) · head_dim, d]`, `attn_output` `[d, heads · head_dim]`, `ffn_norm` `[d]`, `gate_up` `[2 · ffn, d]`, gate first, `down` `[d, ffn]` |
//! | [`output_norm`] | `output_norm` `[d]` |
//! | [`head`] | `lm_head` `[rows, d]` |
//! | [`embedding`] | `embedding` `[vocab, d]` |
//! | [`token_embeddings`] | `hidden` `[tokens, d]` |
//! | [`extract_tokenizer`] | none: JSON, see there |
//!
//! Whatever the architecture, a layer comes out in this one form; query and key rows are in NEOX order, so that rotary
//! pairs are `i` and `i + n/2`. Rotary factors need no extraction: the contract holds them.
//!
//! [`Weights`] are a view: whoever quantizes takes rows straight from the model file, in fp16, and [`Weights::write`] puts
//! what is needed as it is, such as the embedding, into a file (matrices F16, vectors F32). Either way weights pass through in
//! pieces of rows, on all threads; memory does not grow with a tensor. A weight that is not finite, or not in fp16, is an error:
//! nothing downstream could tell it from a large one.

mod error;
mod matrix;
mod source;
mod tokenizer;
mod weights;

use std::ops::Range;

use anepipe_gguf::Gguf;

use crate::contract::{self, Contract};
pub use error::ExtractError;
pub(crate) use matrix::Matrix;
use source::Source;
pub use tokenizer::{extract_tokenizer, tokenizer_digest};
pub use weights::Weights;
pub(crate) use weights::{Entry, Form};

/// Layer `layer` of the model.
pub fn layer<'a>(gguf: &'a Gguf, contract: &Contract, layer: u32) -> Result<Weights<'a>, ExtractError> {
    let layers = contract.layers.value;
    if layer >= layers {
        return Err(ExtractError::out_of_range("layer", layer.into(), layers.into()));
    }
    let mut weights = Weights::new(gguf, contract);
    for (name, tensor) in contract::layer_norms(layer) {
        weights.vector(name, &tensor)?;
    }
    for matrix in contract::layer_matrices(contract, layer) {
        let sources = matrix.parts.into_iter().map(Source::from).collect();
        weights.matrix(matrix.name, matrix.columns, sources)?;
    }
    Ok(weights)
}

/// The whole embedding.
pub fn embedding<'a>(gguf: &'a Gguf, contract: &Contract) -> Result<Weights<'a>, ExtractError> {
    let rows = 0..contract.vocab.value.into();
    let mut weights = Weights::new(gguf, contract);
    let sources = vec![Source::new(contract::EMBEDDING, rows)];
    weights.matrix("embedding", contract.hidden.value.into(), sources)?;
    Ok(weights)
}

/// The embeddings of some tokens, in their order.
pub fn token_embeddings<'a>(
    gguf: &'a Gguf,
    contract: &Contract,
    tokens: &[u32],
) -> Result<Weights<'a>, ExtractError> {
    let vocab = contract.vocab.value;
    if let Some(token) = tokens.iter().find(|token| **token >= vocab) {
        return Err(ExtractError::out_of_range("token", (*token).into(), vocab.into()));
    }
    let rows = tokens.iter().map(|token| u64::from(*token));
    let sources = rows.map(|row| Source::new(contract::EMBEDDING, row..row + 1)).collect();
    let mut weights = Weights::new(gguf, contract);
    weights.matrix("hidden", contract.hidden.value.into(), sources)?;
    Ok(weights)
}

/// The norm before the logits.
pub fn output_norm<'a>(gguf: &'a Gguf, contract: &Contract) -> Result<Weights<'a>, ExtractError> {
    let mut weights = Weights::new(gguf, contract);
    weights.vector("output_norm", contract::OUTPUT_NORM)?;
    Ok(weights)
}

/// The logits' weights of the tokens `rows`, from the separate head or, where it is tied, the embedding.
pub fn head<'a>(gguf: &'a Gguf, contract: &Contract, rows: Range<u32>) -> Result<Weights<'a>, ExtractError> {
    let vocab = contract.vocab.value;
    if rows.end > vocab {
        return Err(ExtractError::out_of_range("token", u64::from(rows.end) - 1, vocab.into()));
    }
    let rows = u64::from(rows.start)..u64::from(rows.end);
    let mut weights = Weights::new(gguf, contract);
    weights.matrix(
        "lm_head",
        contract.hidden.value.into(),
        vec![Source::new(contract.head_tensor(), rows)],
    )?;
    Ok(weights)
}

#[cfg(test)]
mod tests;
