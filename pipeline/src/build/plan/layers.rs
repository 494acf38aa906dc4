//! Decoder layers: how they are cut, their weights, and the output norm behind the last one.

use serde_json::{Value, json};

use super::shape::Shape;
use super::{Inputs, Planner};
use crate::action::Input;
use crate::build::options::BuildOptions;
use crate::contract::{self, Contract};
use crate::error::StageError;
use crate::event::ActionId;
use crate::stage::Stage;
use crate::stages::extract::{self, ExtractError, Weights};
use crate::stages::quantize;
use crate::topology::{Cost, LayerRange, OUTPUT_NORM_OPS, TopologyError, layer_ops};

/// Cuts the layers `range` into shards. The last one has the output norm if they are the `whole` model.
pub(super) fn cut(
    contract: &Contract,
    options: &BuildOptions,
    range: LayerRange,
    whole: bool,
) -> Result<Vec<LayerRange>, TopologyError> {
    let weights: u64 =
        contract::layer_matrices(contract, 0).iter().map(|matrix| matrix.rows() * matrix.columns).sum();
    let bytes = options.quantization.bytes_per_weight() * weights;
    let layer = Cost { bytes, ops: layer_ops(contract.kv_heads.value) };
    let norm = Cost { bytes: 2 * u64::from(contract.hidden.value), ops: OUTPUT_NORM_OPS };
    options.topology.cut(range, layer, if whole { norm } else { Cost::default() })
}

/// The program of `shard`, one of the shards of `range`.
pub(super) fn shape(shard: LayerRange, range: LayerRange, whole: bool) -> Shape {
    Shape::Layers { count: shard.count(), output_norm: whole && shard.end() == range.end() }
}

/// The tensors of one layer, by name.
pub(super) fn tensors_of(contract: &Contract, layer: u32) -> Vec<String> {
    let norms = contract::layer_norms(layer).into_iter().map(|(_, tensor)| tensor);
    let matrices = contract::layer_matrices(contract, layer).into_iter();
    norms.chain(matrices.flat_map(|matrix| matrix.parts).map(|part| part.tensor)).collect()
}

impl Planner<'_> {
    /// Quantizes one layer, from the model file.
    pub(super) fn layer(&mut self, layer: u32) -> ActionId {
        let (model, contract) = (self.model, self.model.contract());
        let prefix = format!("blk.{layer}.");
        let inputs = tensors_of(contract, layer).into_iter().filter_map(|name| {
            let digest = *self.digests.get(&name)?;
            // Without the layer's number, so that equal layers are one object.
            Some((name.strip_prefix(&prefix).unwrap_or(&name).to_owned(), Input::External(digest)))
        });
        let inputs = inputs.collect();
        let parameters = json!({
            "architecture": contract.architecture.value,
            "hidden": contract.hidden.value, "heads": contract.heads.value, "kv_heads": contract.kv_heads.value,
            "head_dim": contract.head_dim.value, "rope_dim": contract.rope_dim.value, "ffn": contract.ffn.value,
        });
        let weights = move || extract::layer(model.gguf(), contract, layer);
        self.quantize(format!("layer {layer}"), format!("layer_{layer:03}"), parameters, inputs, weights)
    }

    /// Gives the output norm the form in which a program stores it.
    pub(super) fn output_norm(&mut self) -> Result<ActionId, StageError> {
        let (model, contract) = (self.model, self.model.contract());
        let inputs = Inputs::from([("output_norm".to_owned(), self.tensor(contract::OUTPUT_NORM)?)]);
        let parameters = json!({"gives": "output_norm", "hidden": contract.hidden.value});
        let weights = move || extract::output_norm(model.gguf(), contract);
        Ok(self.quantize("output norm".to_owned(), "output_norm".to_owned(), parameters, inputs, weights))
    }
}

impl<'a> Planner<'a> {
    /// Quantizes the `weights` of the model file that are made of `inputs`. The report is to be called `quantize_` and `stem`.
    pub(super) fn quantize(
        &mut self,
        subject: String,
        stem: String,
        mut parameters: Value,
        inputs: Inputs,
        weights: impl Fn() -> Result<Weights<'a>, ExtractError> + Send + Sync + 'a,
    ) -> ActionId {
        let quantization = self.options.quantization;
        parameters["quantization"] = json!(quantization);
        let action = self.add(Stage::Quantize, subject, parameters, inputs, move |job| {
            let path = job.scratch().join("quantized.safetensors");
            let report = quantize::quantize(&weights()?, &path, quantization)?;
            job.output("tensors", &path)?;
            job.output_json("report", &report)
        });
        self.quantize_reports.push((stem, action));
        action
    }
}
