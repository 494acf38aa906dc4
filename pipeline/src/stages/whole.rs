//! A whole model as gates load it: from the parts of a bundle, or from those of one that has not shipped yet.

use std::sync::Arc;

use anepipe_runtime::bundle::Parts;
use anepipe_runtime::device::Device;
use anepipe_runtime::session::{Model, SessionError};
use anepipe_runtime::token::TokenId;
use anepipe_runtime::tokenizer::{Encode, Tokenizer, TokenizerError};

use crate::gates::exact::{Prompt, Tokens};

/// A loaded model and its tokenizer.
pub(super) struct WholeModel {
    pub(super) model: Arc<Model>,
    /// Absent where the vocabulary is of a kind that is not known here.
    tokenizer: Option<Tokenizer>,
}

/// Why a whole model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum WholeError {
    /// Its shards or tables.
    #[error(transparent)]
    Model(#[from] SessionError),
    /// Its tokenizer is damaged.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl WholeModel {
    pub(super) fn open(parts: &Parts, device: &dyn Device) -> Result<Self, WholeError> {
        let tokenizer = match Tokenizer::read(&parts.tokenizer) {
            Ok(tokenizer) => Some(tokenizer),
            // What a gate looks at is the model; a vocabulary that cannot be spelled must not keep it from that.
            Err(TokenizerError::Unsupported { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { model: Arc::new(Model::open(parts, device)?), tokenizer })
    }

    /// Whether text becomes the model's own tokens.
    pub(super) fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// The tokens of `text`; without a tokenizer its bytes, taken as ids: no text the model knows, but tokens all the same.
    pub(super) fn encode(&self, text: &str) -> Vec<TokenId> {
        match &self.tokenizer {
            Some(tokenizer) => tokenizer.encode(text, Encode { parse_special: false, add_special: true }),
            None => {
                text.bytes().map(|byte| TokenId::from(byte) % self.model.vocab().max(1) as TokenId).collect()
            }
        }
    }

    /// The tokens of a prompt.
    pub(super) fn tokens(&self, prompt: &Prompt) -> Tokens {
        prompt.tokens(|text| self.encode(text))
    }
}
