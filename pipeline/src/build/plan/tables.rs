//! What is taken from the model file as it is: the contract, rows of the embedding and all of it, the tokenizer.

use anepipe_artifacts::{Digest, Store};
use serde_json::json;

use super::{Inputs, Planner, Whole};
use crate::action::Input;
use crate::contract;
use crate::error::StageError;
use crate::event::ActionId;
use crate::stage::Stage;
use crate::stages::extract;

impl Planner<'_> {
    /// `contract.json`.
    pub(super) fn contract(&mut self) -> Result<ActionId, StageError> {
        let json =
            self.model.contract().to_json().map_err(|error| StageError::Internal(error.to_string()))?;
        let inputs = Inputs::from([("contract".to_owned(), Input::External(Digest::of_bytes(&json)))]);
        Ok(self
            .add(Stage::Contract, "model", json!({}), inputs, move |job| job.output_bytes("contract", &json)))
    }

    /// The embeddings of the tokens that the gates feed.
    pub(super) fn token_embeddings(&mut self, store: &Store) -> Result<ActionId, StageError> {
        let (model, contract) = (self.model, self.model.contract());
        let tokens =
            self.options.token_ids.clone().unwrap_or_else(|| default_token_ids(contract.vocab.value));
        let digest = model.digests(store, &[contract::EMBEDDING.to_owned()])?;
        let inputs = digest.into_iter().map(|(name, digest)| (name, Input::External(digest))).collect();
        let parameters = json!({"tokens": tokens, "hidden": contract.hidden.value});
        Ok(self.add(Stage::Extract, "token embeddings", parameters, inputs, move |job| {
            let path = job.scratch().join("token_embeddings.safetensors");
            extract::token_embeddings(model.gguf(), contract, &tokens)?.write(&path)?;
            job.output("tensors", &path)
        }))
    }

    /// What a bundle of the whole model has besides shards.
    pub(super) fn whole(&mut self) -> Result<Whole, StageError> {
        Ok(Whole { embedding: self.embedding()?, tokenizer: self.tokenizer()? })
    }

    /// The whole embedding, fp16 `[vocab, d]`.
    fn embedding(&mut self) -> Result<ActionId, StageError> {
        let (model, contract) = (self.model, self.model.contract());
        let inputs = Inputs::from([("embedding".to_owned(), self.tensor(contract::EMBEDDING)?)]);
        let parameters = json!({
            "gives": "embedding", "vocab": contract.vocab.value, "hidden": contract.hidden.value,
        });
        Ok(self.add(Stage::Extract, "embedding", parameters, inputs, move |job| {
            let path = job.scratch().join("embedding.safetensors");
            extract::embedding(model.gguf(), contract)?.write(&path)?;
            job.output("tensors", &path)
        }))
    }

    /// `tokenizer.json`. Its input is the tokenizer's metadata and nothing else of the file.
    fn tokenizer(&mut self) -> Result<ActionId, StageError> {
        let model = self.model;
        let digest = extract::tokenizer_digest(model.gguf())?;
        let inputs = Inputs::from([("metadata".to_owned(), Input::External(digest))]);
        Ok(self.add(Stage::Extract, "tokenizer", json!({"gives": "tokenizer"}), inputs, move |job| {
            let path = job.scratch().join("tokenizer.json");
            extract::extract_tokenizer(model.gguf(), &path)?;
            job.output("tokenizer", &path)
        }))
    }
}

/// Phi-4-mini's usual gate input: the tokens with which its chats begin.
const PHI_4_MINI_TOKENS: [u32; 4] = [199_999, 200_021, 14_350, 200_019];
const PHI_4_MINI_VOCAB: u32 = 200_064;

/// Tokens for a model whose project file names none: spread over the vocabulary.
fn default_token_ids(vocab: u32) -> Vec<u32> {
    if vocab == PHI_4_MINI_VOCAB {
        return PHI_4_MINI_TOKENS.to_vec();
    }
    (1..=4).map(|part| (u64::from(vocab) * part / 5) as u32).collect()
}
