//! The graph of actions of one build.
//!
//! Every noun has its file: what is taken from the model whole ([`tables`]), layers ([`layers`]), the LM head ([`head`]),
//! programs ([`shape`]), the way of a shard to its compiled form ([`shard`]), gates on a shard ([`gates`]) and on the whole
//! model ([`model_gates`]), and the bundle ([`bundle`]). Each adds its actions to the one [`Planner`].

mod bundle;
mod gates;
mod head;
mod layers;
mod model_gates;
mod shape;
mod shard;
mod tables;

use std::collections::BTreeMap;

use anepipe_artifacts::{Digest, Store};
use anepipe_runtime::rope::RopeSpec;
use serde_json::{Map, Value};

use self::shape::Shape;
use super::model::Model;
use super::options::{BuildOptions, Fault};
use super::ship::{Gate, Whole};
use super::workers::Workers;
use crate::action::{Action, ActionGraph, Input, Job};
use crate::contract::Contract;
use crate::error::StageError;
use crate::event::{ActionId, Label};
use crate::stage::Stage;
use crate::stages::graph::Style;
use crate::topology::LayerRange;

/// A graph, and where in it the bundle comes out.
pub struct Plan<'a> {
    /// The actions.
    pub graph: ActionGraph<'a>,
    /// The action whose output `bundle` is the bundle.
    pub ship: ActionId,
}

/// Plans the build that `options` ask for. A build of every layer ships the whole model: embedding, output norm, LM head
/// and tokenizer besides the layers. A build of some layers ships these and nothing else.
pub fn plan<'a>(
    model: &'a Model,
    options: &'a BuildOptions,
    store: &Store,
    workers: &'a Workers,
) -> Result<Plan<'a>, StageError> {
    let contract = model.contract();
    let (range, whole) = layers_of(options, contract)?;
    let shards = layers::cut(contract, options, range, whole)?;
    let heads = if whole { head::cut(contract, options)? } else { Vec::new() };
    let mut names: Vec<String> = range.iter().flat_map(|layer| layers::tensors_of(contract, layer)).collect();
    if whole {
        names = model.gguf().tensors().map(|tensor| tensor.name().to_owned()).collect();
    }
    let mut planner = Planner {
        model,
        options,
        workers,
        digests: model.digests(store, &names)?,
        graph: ActionGraph::default(),
        shapes: BTreeMap::new(),
        quantize_reports: Vec::new(),
        gates: Vec::new(),
    };

    let contract_json = planner.contract()?;
    let token_embeddings = planner.token_embeddings(store)?;
    // Python takes longest to start, so the graphs come before what they run beside.
    for &shard in &shards {
        planner.shape(layers::shape(shard, range, whole))?;
    }
    for rows in &heads {
        planner.shape(Shape::head(rows))?;
    }
    let output_norm = whole.then(|| planner.output_norm()).transpose()?;
    // One shard after the other, from its weights to its gates: what one stage wrote is still in memory when the next reads it, the
    // disk writes while gates compute, and a gate that says no says so before the rest is built.
    let mut shipped = Vec::new();
    for &shard in &shards {
        let weights = shard.iter().map(|layer| planner.layer(layer)).collect();
        let ends = shard.end() == range.end();
        let shard = planner.layer_shard(shard, weights, output_norm.filter(|_| ends))?;
        planner.shard_gates(&shard, token_embeddings)?;
        shipped.push(shard);
    }
    for rows in &heads {
        let weights = planner.head_weights(rows)?;
        let shard = planner.head_shard(rows, weights)?;
        planner.shard_gates(&shard, token_embeddings)?;
        shipped.push(shard);
    }
    let whole = whole.then(|| planner.whole()).transpose()?;
    if let Some(whole) = whole {
        planner.golden(&shipped, whole);
        planner.exact(&shipped, whole)?;
    }
    let ship = planner.bundle(contract_json, token_embeddings, whole, shipped)?;
    Ok(Plan { graph: planner.graph, ship })
}

/// The layers asked for, checked against the model, and whether they are all of it.
fn layers_of(options: &BuildOptions, contract: &Contract) -> Result<(LayerRange, bool), StageError> {
    let all = LayerRange::new(0, contract.layers.value)?;
    match options.layers {
        None => Ok((all, true)),
        Some(layers) if layers.end() <= all.end() => Ok((layers, layers == all)),
        Some(layers) => Err(StageError::Usage(format!(
            "--layers {layers}: the model has layers {all}; give a range inside it"
        ))),
    }
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

/// How graphs are authored.
const STYLE: Style = Style::Stateful;

/// The graph so far, and what its actions are made of.
struct Planner<'a> {
    model: &'a Model,
    options: &'a BuildOptions,
    workers: &'a Workers,
    /// Of every tensor that shards and tables are made of, by name.
    digests: BTreeMap<String, Digest>,
    graph: ActionGraph<'a>,
    /// Graph actions by what they give.
    shapes: BTreeMap<Shape, ActionId>,
    /// Actions whose `report` says what quantization cost, by the stem of its file.
    quantize_reports: Vec<(String, ActionId)>,
    /// The gates that must pass before the bundle ships, in the manifest's order.
    gates: Vec<Gate>,
}

/// Inputs by name.
type Inputs = BTreeMap<String, Input>;

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

/// Anything as JSON.
fn json_of(value: &impl serde::Serialize) -> Result<Value, StageError> {
    serde_json::to_value(value).map_err(|error| StageError::Internal(error.to_string()))
}

impl<'a> Planner<'a> {
    fn add(
        &mut self,
        stage: Stage,
        subject: impl Into<String>,
        parameters: Value,
        inputs: Inputs,
        run: impl Fn(&mut Job<'_>) -> Result<(), StageError> + Send + Sync + 'a,
    ) -> ActionId {
        self.graph.add(Action {
            label: Label { stage, subject: subject.into() },
            parameters: object(parameters),
            environment: Map::new(),
            inputs,
            gates: Vec::new(),
            predictions_decide: false,
            run: Box::new(run),
        })
    }

    /// The contents of a tensor of the model file, as an input.
    fn tensor(&self, name: &str) -> Result<Input, StageError> {
        let digest = self.digests.get(name).copied();
        let digest = digest.ok_or_else(|| StageError::Internal(format!("the plan reads {name} unasked")))?;
        Ok(Input::External(digest))
    }
}
