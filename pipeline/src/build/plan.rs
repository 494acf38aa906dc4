//! The graph of actions of one build.

use std::collections::BTreeMap;

use anepipe_artifacts::{Digest, Store};
use anepipe_runtime::bundle::manifest::Role;
use anepipe_runtime::device::Device;
use anepipe_runtime::portable::PortableDevice;
use anepipe_runtime::rope::RopeSpec;
use serde_json::{Map, Value, json};

use super::model::Model;
use super::options::{BuildOptions, Fault};
use super::ship::{self, Facts, ShippedShard};
use super::workers::Workers;
use crate::action::{Action, ActionGraph, Input};
use crate::contract::{self, Contract};
use crate::error::StageError;
use crate::event::{ActionId, Label};
use crate::stage::Stage;
use crate::stages::graph::{GraphSpec, LayersSpec, Style};
use crate::stages::parity::ParityTask;
use crate::stages::{compile, convert, extract, graph, parity, quantize};
use crate::topology::{LayerCost, LayerRange};

/// A graph, and where in it the bundle comes out.
pub struct Plan<'a> {
    /// The actions.
    pub graph: ActionGraph<'a>,
    /// The action whose output `bundle` is the bundle.
    pub ship: ActionId,
}

/// Plans the build that `options` ask for.
pub fn plan<'a>(
    model: &'a Model,
    options: &'a BuildOptions,
    store: &Store,
    workers: &'a Workers,
) -> Result<Plan<'a>, StageError> {
    let contract = model.contract();
    let layers = layers_of(options, contract)?;
    let shards = options.topology.cut(layers, layer_cost(contract, options))?;
    let names: Vec<String> = layers.iter().flat_map(|layer| tensors_of(contract, layer)).collect();
    let digests = model.digests(store, &names)?;
    let mut planner =
        Planner { model, options, workers, digests, graph: ActionGraph::default(), shapes: BTreeMap::new() };

    let contract_json = planner.contract()?;
    let token_embeddings = planner.token_embeddings(store)?;
    // Python takes longest to start, so the graphs come before what they run beside.
    for shard in &shards {
        planner.shape(shard.count())?;
    }
    let mut quantized = BTreeMap::new();
    for layer in layers.iter() {
        quantized.insert(layer, planner.layer(layer));
    }
    let mut shipped = Vec::new();
    for &shard in &shards {
        let weights: Vec<ActionId> =
            shard.iter().filter_map(|layer| quantized.get(&layer).copied()).collect();
        shipped.push(planner.shard(shard, &weights, token_embeddings)?);
    }
    let ship = planner.ship(contract_json, token_embeddings, &quantized, shipped)?;
    Ok(Plan { graph: planner.graph, ship })
}

/// The layers asked for, checked against the model.
fn layers_of(options: &BuildOptions, contract: &Contract) -> Result<LayerRange, StageError> {
    let all = LayerRange::new(0, contract.layers.value)?;
    match options.layers {
        None => Ok(all),
        Some(layers) if layers.end() <= all.end() => Ok(layers),
        Some(layers) => Err(StageError::Usage(format!(
            "--layers {layers}: the model has layers {all}; give a range inside it"
        ))),
    }
}

/// The tensors of one layer, by name.
fn tensors_of(contract: &Contract, layer: u32) -> Vec<String> {
    let norms = contract::layer_norms(layer).into_iter().map(|(_, tensor)| tensor);
    let matrices = contract::layer_matrices(contract, layer).into_iter();
    norms.chain(matrices.flat_map(|matrix| matrix.parts).map(|part| part.tensor)).collect()
}

/// What one layer weighs in a compiled shard.
fn layer_cost(contract: &Contract, options: &BuildOptions) -> LayerCost {
    let weights: u64 =
        contract::layer_matrices(contract, 0).iter().map(|matrix| matrix.rows() * matrix.columns).sum();
    let bytes = match options.quantization {
        quantize::Quantization::F16 => 2 * weights,
        quantize::Quantization::Int8 | quantize::Quantization::Int8PerTensor => weights,
    };
    LayerCost { bytes, ops: ops_per_layer(contract.kv_heads.value) }
}

/// The rotary embedding that the host computes for this model.
pub fn rope_of(contract: &Contract, fault: Option<Fault>) -> RopeSpec {
    let rope_dim = rope_dim(contract, fault);
    let factors = contract.rope_factors.value.clone();
    // The fault has more pairs than the model has factors: the rest is divided by 1, as a builder that assumed the
    // width would have it.
    let factors = factors.map(|mut factors| {
        factors.resize(rope_dim as usize / 2, 1.0);
        factors
    });
    RopeSpec {
        rope_dim: rope_dim as usize,
        base: contract.rope_base.value,
        factors,
        attn_factor: contract.attn_factor.value,
    }
}

fn rope_dim(contract: &Contract, fault: Option<Fault>) -> u32 {
    match fault {
        Some(Fault::RopeHeadDim) => contract.head_dim.value,
        Some(Fault::NoPermute) | None => contract.rope_dim.value,
    }
}

/// Operations of one layer of a graph, at most: 126 where there are 8 KV heads, 94 where there are 4.
fn ops_per_layer(kv_heads: u32) -> u64 {
    70 + 8 * u64::from(kv_heads)
}

struct Planner<'a> {
    model: &'a Model,
    options: &'a BuildOptions,
    workers: &'a Workers,
    digests: BTreeMap<String, Digest>,
    graph: ActionGraph<'a>,
    /// Graph actions by layers in the shard.
    shapes: BTreeMap<u32, ActionId>,
}

/// An output of an action, as an input.
fn output(action: ActionId, name: &'static str) -> Input {
    Input::Output { action, name }
}

/// A JSON object's entries.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

impl<'a> Planner<'a> {
    fn add(
        &mut self,
        stage: Stage,
        subject: impl Into<String>,
        parameters: Value,
        inputs: BTreeMap<String, Input>,
        run: impl Fn(&mut crate::action::Job<'_>) -> Result<(), StageError> + Send + Sync + 'a,
    ) -> ActionId {
        self.graph.add(Action {
            label: Label { stage, subject: subject.into() },
            parameters: object(parameters),
            environment: Map::new(),
            inputs,
            gates: Vec::new(),
            run: Box::new(run),
        })
    }

    fn contract(&mut self) -> Result<ActionId, StageError> {
        let json =
            self.model.contract().to_json().map_err(|error| StageError::Internal(error.to_string()))?;
        let inputs = BTreeMap::from([("contract".to_owned(), Input::External(Digest::of_bytes(&json)))]);
        Ok(self
            .add(Stage::Contract, "model", json!({}), inputs, move |job| job.output_bytes("contract", &json)))
    }

    /// The embeddings of the tokens that the gates feed.
    fn token_embeddings(&mut self, store: &Store) -> Result<ActionId, StageError> {
        let (model, contract) = (self.model, self.model.contract());
        let tokens =
            self.options.token_ids.clone().unwrap_or_else(|| default_token_ids(contract.vocab.value));
        let digest = model.digests(store, &[contract::EMBEDDING.to_owned()])?;
        let inputs = digest.into_iter().map(|(name, digest)| (name, Input::External(digest))).collect();
        let parameters = json!({"tokens": tokens, "hidden": contract.hidden.value});
        Ok(self.add(Stage::Extract, "token embeddings", parameters, inputs, move |job| {
            let path = job.scratch().join("token_embeddings.safetensors");
            extract::extract_token_embeddings(model.gguf(), contract, &tokens, &path)?;
            job.output("tensors", &path)
        }))
    }

    /// Extracts and quantizes one layer.
    fn layer(&mut self, layer: u32) -> ActionId {
        let (model, contract, quantization) = (self.model, self.model.contract(), self.options.quantization);
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
        let extracted = self.add(Stage::Extract, format!("layer {layer}"), parameters, inputs, move |job| {
            let path = job.scratch().join("layer.safetensors");
            extract::extract_layer(model.gguf(), contract, layer, &path)?;
            job.output("tensors", &path)
        });
        let inputs = BTreeMap::from([("layer".to_owned(), output(extracted, "tensors"))]);
        let parameters = json!({"quantization": quantization});
        self.add(Stage::Quantize, format!("layer {layer}"), parameters, inputs, move |job| {
            let path = job.scratch().join("quantized.safetensors");
            let report = quantize::quantize(&job.input("layer")?, &path, quantization)?;
            job.output("tensors", &path)?;
            job.output_json("report", &report)
        })
    }

    /// The graph of shards of `layers` layers; one action however many shards have that shape.
    fn shape(&mut self, layers: u32) -> Result<ActionId, StageError> {
        if let Some(&known) = self.shapes.get(&layers) {
            return Ok(known);
        }
        let workers = self.workers;
        let spec = self.graph_spec(layers);
        let parameters =
            serde_json::to_value(&spec).map_err(|error| StageError::Internal(error.to_string()))?;
        let environment = serde_json::to_value(workers.fingerprint())
            .map_err(|error| StageError::Internal(error.to_string()))?;
        let subject = format!("of {layers} {}", if layers == 1 { "layer" } else { "layers" });
        let action = self.graph.add(Action {
            label: Label { stage: Stage::Graph, subject },
            parameters: object(parameters),
            environment: object(environment),
            inputs: BTreeMap::new(),
            gates: Vec::new(),
            run: Box::new(move |job| {
                let report = workers.with(|worker| graph::run(worker, &spec, job.scratch()))??;
                job.output("model", &job.scratch().join(graph::MODEL_FILE))?;
                job.output("blobs", &job.scratch().join(graph::BLOBS_FILE))?;
                job.output_json("report", &report)
            }),
        });
        self.shapes.insert(layers, action);
        Ok(action)
    }

    fn graph_spec(&self, layers: u32) -> GraphSpec {
        let contract = self.model.contract();
        GraphSpec::Layers(LayersSpec {
            style: STYLE,
            widths: self.options.all_widths(),
            hidden: contract.hidden.value,
            heads: contract.heads.value,
            kv_heads: contract.kv_heads.value,
            head_dim: contract.head_dim.value,
            ffn: contract.ffn.value,
            rope_dim: rope_dim(contract, self.options.fault),
            norm_eps: f64::from(contract.norm_eps.value),
            context: self.options.context,
            layers,
            quantization: self.options.quantization.into(),
            output_norm: false,
            qkv_bias: false,
            fault: match self.options.fault {
                Some(Fault::NoPermute) => Some(graph::Fault::NoPermute),
                Some(Fault::RopeHeadDim) | None => None,
            },
        })
    }

    /// Converts, compiles and judges one shard.
    fn shard(
        &mut self,
        shard: LayerRange,
        weights: &[ActionId],
        token_embeddings: ActionId,
    ) -> Result<ShippedShard, StageError> {
        let subject = format!("layers {shard}");
        let graph = self.shape(shard.count())?;
        let mut inputs = BTreeMap::from([
            ("model".to_owned(), output(graph, "model")),
            ("blobs".to_owned(), output(graph, "blobs")),
        ]);
        let slots: Vec<String> = (0..weights.len()).map(|slot| format!("slot {slot:03}")).collect();
        inputs.extend(slots.iter().cloned().zip(weights.iter().map(|&layer| output(layer, "tensors"))));
        let package = self.add(Stage::Convert, &subject, json!({}), inputs, move |job| {
            let layers: Result<Vec<_>, _> = slots.iter().map(|slot| job.input(slot)).collect();
            let path = job.scratch().join("shard.mlpackage");
            convert::convert(&job.input("model")?, &job.input("blobs")?, &layers?, &path)?;
            job.output("package", &path)
        });

        let inputs = BTreeMap::from([("package".to_owned(), output(package, "package"))]);
        let compiled =
            self.add(Stage::Compile, &subject, json!({"compiler": compile::COMPILER}), inputs, |job| {
                let path = job.scratch().join("shard.mlmodelc");
                compile::run(&job.input_dir("package", "shard.mlpackage")?, &path)?;
                job.output("modelc", &path)
            });

        let task = ParityTask {
            name: subject.clone(),
            block: self.options.block,
            widths: self.options.all_widths(),
            rope: Some(rope_of(self.model.contract(), self.options.fault)),
            thresholds: self.options.parity,
        };
        let inputs = BTreeMap::from([
            ("modelc".to_owned(), output(compiled, "modelc")),
            ("token_embeddings".to_owned(), output(token_embeddings, "tensors")),
        ]);
        let device = PortableDevice::new();
        let parameters = json!({"device": device.name(), "task": task});
        let parity = self.add(Stage::Parity, &subject, parameters, inputs, move |job| {
            let model = job.input_dir("modelc", "shard.mlmodelc")?;
            let report = parity::run(&device, &model, &job.input("token_embeddings")?, &task)?;
            job.output_json("report", &report)
        });
        Ok(ShippedShard { role: Role::Layers, range: [shard.start(), shard.end()], compiled, parity })
    }

    fn ship(
        &mut self,
        contract: ActionId,
        token_embeddings: ActionId,
        quantized: &BTreeMap<u32, ActionId>,
        shards: Vec<ShippedShard>,
    ) -> Result<ActionId, StageError> {
        let facts = Facts {
            style: STYLE,
            block: self.options.block,
            widths: self.options.all_widths(),
            context: self.options.context,
            quantization: self.options.quantization,
            rope: rope_of(self.model.contract(), self.options.fault),
            source: self.source(),
            versions: self.versions(),
        };
        let mut inputs = BTreeMap::from([
            ("contract".to_owned(), output(contract, "contract")),
            ("token_embeddings".to_owned(), output(token_embeddings, "tensors")),
        ]);
        for shard in &shards {
            inputs.insert(format!("modelc {}", shard.stem()), output(shard.compiled, "modelc"));
            inputs.insert(format!("parity {}", shard.stem()), output(shard.parity, "report"));
        }
        for (layer, action) in quantized {
            inputs.insert(format!("quantize layer_{layer:03}"), output(*action, "report"));
        }
        let parameters =
            serde_json::to_value(&facts).map_err(|error| StageError::Internal(error.to_string()))?;
        Ok(self.graph.add(Action {
            label: Label { stage: Stage::Ship, subject: "bundle".to_owned() },
            parameters: object(parameters),
            environment: Map::new(),
            inputs,
            gates: shards.iter().map(|shard| shard.parity).collect(),
            run: Box::new(move |job| ship::run(job, &shards, &facts)),
        }))
    }

    /// One digest for everything that was read of the model file.
    fn source(&self) -> String {
        let mut lines = String::new();
        for (name, digest) in &self.digests {
            lines.extend([name.as_str(), " ", &digest.to_string(), "\n"]);
        }
        Digest::of_bytes(lines.as_bytes()).to_string()
    }

    fn versions(&self) -> BTreeMap<String, String> {
        let python = self.workers.fingerprint();
        [
            ("anepipe", env!("CARGO_PKG_VERSION")),
            ("coremltools", &python.coremltools),
            ("numpy", &python.numpy),
            ("protobuf", &python.protobuf),
        ]
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .into()
    }
}

/// How graphs are authored.
const STYLE: Style = Style::Stateful;

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
