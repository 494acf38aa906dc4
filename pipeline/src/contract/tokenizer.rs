//! What a contract says of the tokenizer: its kind, and the tokens a program must know by number.

use anepipe_gguf::Strings;
use serde::{Deserialize, Serialize};

use super::keys::{self, Keys};
use super::{ContractError, Sourced};

const KIND: &str = "tokenizer.ggml.model";
pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokenizer {
    /// Kind, such as `gpt2` or `llama`.
    pub kind: Sourced<String>,
    /// How text is split before merges, such as `gpt-4o`; none = as the kind does.
    pub pre: Sourced<Option<String>>,
    /// Number of tokens; none = the file has no tokens.
    pub tokens: Sourced<Option<u32>>,
    /// The token a text begins with; below the number of tokens.
    pub bos: Sourced<Option<u32>>,
    /// The token that ends a text; below the number of tokens.
    pub eos: Sourced<Option<u32>>,
    /// Whether a text is to begin with `bos`; none = as the kind does.
    pub add_bos: Sourced<Option<bool>>,
}

impl Tokenizer {
    pub(super) fn read(keys: &Keys<'_>) -> Result<Self, ContractError> {
        let gguf = keys.gguf();
        let kind: Sourced<&str> = keys::require(gguf, KIND)?;
        let tokens = maybe(keys::optional::<&Strings>(gguf, TOKENS)?, TOKENS, |tokens| {
            // A list has no more elements than the file has bytes; a number too large fails against the embedding.
            u32::try_from(tokens.len()).unwrap_or(u32::MAX)
        });
        let pre = "tokenizer.ggml.pre";
        let bos = "tokenizer.ggml.bos_token_id";
        let eos = "tokenizer.ggml.eos_token_id";
        let add_bos = "tokenizer.ggml.add_bos_token";
        Ok(Self {
            kind: Sourced::new(kind.value.to_owned(), kind.source),
            pre: maybe(keys::optional::<&str>(gguf, pre)?, pre, str::to_owned),
            tokens,
            bos: maybe(keys::optional(gguf, bos)?, bos, |id| id),
            eos: maybe(keys::optional(gguf, eos)?, eos, |id| id),
            add_bos: maybe(keys::optional(gguf, add_bos)?, add_bos, |yes| yes),
        })
    }

    /// Holds what was read against the number of rows of the embedding.
    pub(super) fn check(&self, keys: &Keys<'_>, vocab: u32) -> Result<(), ContractError> {
        if let Some(tokens) = self.tokens.value
            && tokens != vocab
        {
            let expected = format!("a list of {vocab}, one for each row of {}", super::EMBEDDING);
            return Err(keys.contradiction(TOKENS, expected, format!("a list of {tokens}")));
        }
        for id in [&self.bos, &self.eos] {
            if let Some(value) = id.value
                && value >= vocab
            {
                return Err(keys.contradiction(
                    &id.source,
                    format!("below {vocab}, the number of tokens"),
                    value,
                ));
            }
        }
        Ok(())
    }
}

/// A key that may be absent, with what its absence is recorded as.
fn maybe<T, U>(found: Option<Sourced<T>>, key: &str, value: impl FnOnce(T) -> U) -> Sourced<Option<U>> {
    match found {
        Some(found) => Sourced::new(Some(value(found.value)), found.source),
        None => Sourced::new(None, format!("no {key}")),
    }
}
