//! The LM head: how the vocabulary is cut, and the weights of its slices.

use std::ops::Range;

use anepipe_runtime::bundle::manifest::Role;
use serde_json::json;

use super::{Inputs, Planner};
use crate::build::options::BuildOptions;
use crate::build::ship::Shard;
use crate::contract::Contract;
use crate::error::StageError;
use crate::event::ActionId;
use crate::stages::extract;
use crate::topology::{TopologyError, cut_head};

/// Cuts the vocabulary into the rows of shards.
pub(super) fn cut(contract: &Contract, options: &BuildOptions) -> Result<Vec<Range<u32>>, TopologyError> {
    // A row's scale, if it has one, is fp16.
    let row_bytes = options.quantization.bytes_per_weight() * u64::from(contract.hidden.value) + 2;
    cut_head(contract.vocab.value, row_bytes)
}

impl Planner<'_> {
    /// Quantizes the logits' weights of the tokens `rows`.
    pub(super) fn head_weights(&mut self, rows: &Range<u32>) -> Result<ActionId, StageError> {
        let (model, contract, rows) = (self.model, self.model.contract(), rows.clone());
        let range = [rows.start, rows.end];
        // Without the tensor's name: of a tied and a separate head with the same weights, slices are one object.
        let inputs = Inputs::from([("head".to_owned(), self.tensor(contract.head_tensor())?)]);
        let parameters = json!({
            "gives": "lm_head", "rows": range, "hidden": contract.hidden.value,
        });
        let (subject, stem) = (Shard::subject_of(Role::LmHead, range), Shard::stem_of(Role::LmHead, range));
        let weights = move || extract::head(model.gguf(), contract, rows.clone());
        Ok(self.quantize(subject, stem, parameters, inputs, weights))
    }
}
