//! Gates that look at the whole model: what all shards say together, before they ship.

use std::ops::Range;

use anepipe_artifacts::Digest;
use anepipe_runtime::bundle::manifest::Role;
use anepipe_runtime::bundle::{HeadPart, Parts};
use anepipe_runtime::device::Device as _;
use anepipe_runtime::portable::PortableDevice;
use serde_json::{Map, json};

use super::{Inputs, Planner, json_of, object, output, rope_of};
use crate::action::{Action, Input, Job, Run};
use crate::build::ship::{Gate, Shard, Whole};
use crate::error::StageError;
use crate::event::{Label, Unit};
use crate::gates::golden::Weights;
use crate::stage::Stage;
use crate::stages::golden::GoldenTask;
use crate::stages::{exact, golden};

impl<'a> Planner<'a> {
    /// Compares what the shards say with an independent forward of the model file.
    pub(super) fn golden(&mut self, shards: &[Shard], whole: Whole) {
        let (model, layout) = (self.model, self.layout(shards));
        let options = &self.options.golden;
        let task = GoldenTask {
            text: options.text.clone(),
            tokens: options.tokens,
            thresholds: options.thresholds,
            quantization: self.options.quantization,
        };
        let device = PortableDevice::new();
        let limits = [Weights::Stored, Weights::File]
            .map(|weights| task.thresholds.limits(weights, task.quantization, device.name()));
        let parameters = json!({
            "device": device.name(), "model": layout.facts(), "source": task.text.1, "tokens": task.tokens,
            "quantization": task.quantization,
            "limits": limits,
        });
        let mut inputs = model_inputs(shards, whole);
        inputs.insert("text".to_owned(), Input::External(Digest::of_bytes(task.text.0.as_bytes())));
        inputs.insert("metadata".to_owned(), Input::External(model.metadata_digest()));
        for (name, digest) in &self.digests {
            inputs.insert(format!("tensor {name}"), Input::External(*digest));
        }
        self.model_gate(
            Stage::Golden,
            parameters,
            inputs,
            Box::new(move |job| {
                let parts = layout.parts(job)?;
                let on_layer =
                    |done, layers| job.meter().set(u64::from(done), u64::from(layers), Unit::Items);
                let report = golden::run(&device, &parts, model.gguf(), &task, on_layer)?;
                job.output_json("report", &report)
            }),
        );
    }

    /// Compares speculative decoding with plain decoding.
    pub(super) fn exact(&mut self, shards: &[Shard], whole: Whole) -> Result<(), StageError> {
        let layout = self.layout(shards);
        let options = &self.options.exact;
        let prompts = json_of(&options.prompts)?.to_string();
        let device = PortableDevice::new();
        let parameters =
            json!({"device": device.name(), "model": layout.facts(), "max_new": options.max_new});
        let mut inputs = model_inputs(shards, whole);
        inputs.insert("prompts".to_owned(), Input::External(Digest::of_bytes(prompts.as_bytes())));
        self.model_gate(
            Stage::Exact,
            parameters,
            inputs,
            Box::new(move |job| {
                let parts = layout.parts(job)?;
                let total = options.prompts.len() as u64;
                let on_prompt = |done| job.meter().set(done as u64, total, Unit::Items);
                let report = exact::run(&device, &parts, &options.prompts, options.max_new, on_prompt)?;
                job.output_json("report", &report)
            }),
        );
        Ok(())
    }

    /// A gate on the whole model. It starts when every shard has passed its own: of a shard that is wrong, those say more.
    fn model_gate(&mut self, stage: Stage, parameters: serde_json::Value, inputs: Inputs, run: Run<'a>) {
        let action = self.graph.add(Action {
            label: Label { stage, subject: "model".to_owned() },
            parameters: object(parameters),
            environment: Map::new(),
            inputs,
            gates: self.gates.iter().filter(|gate| gate.shard.is_some()).map(|gate| gate.action).collect(),
            predictions_decide: false,
            run,
        });
        self.gates.push(Gate { stage, shard: None, action });
    }

    fn layout(&self, shards: &[Shard]) -> Layout {
        let contract = self.model.contract();
        let of = |role| shards.iter().filter(move |shard: &&Shard| shard.role == role);
        let nowhere = std::path::PathBuf::new;
        Layout {
            layers: of(Role::Layers).map(Shard::stem).collect(),
            heads: of(Role::LmHead).map(|shard| (shard.stem(), shard.range[0]..shard.range[1])).collect(),
            numbers: Parts {
                embedding: nowhere(),
                layers: Vec::new(),
                heads: Vec::new(),
                rope: rope_of(contract, self.options.fault),
                widths: self.options.all_widths(),
                block: self.options.block,
                context: self.options.context,
                hidden: contract.hidden.value,
                vocab: contract.vocab.value,
                tokenizer: nowhere(),
            },
        }
    }
}

/// A whole model, by the names of a job's inputs.
struct Layout {
    /// Stems of the shards of layers.
    layers: Vec<String>,
    /// Stems of the heads, and their rows.
    heads: Vec<(String, Range<u32>)>,
    /// All but the paths.
    numbers: Parts,
}

impl Layout {
    /// What the parts say besides what they are.
    fn facts(&self) -> serde_json::Value {
        let Parts { rope, widths, block, context, hidden, vocab, .. } = &self.numbers;
        json!({
            "layers": self.layers, "heads": self.heads, "rope": rope, "widths": widths, "block": block,
            "context": context, "hidden": hidden, "vocab": vocab,
        })
    }

    /// The model as it lies among the job's inputs.
    fn parts(&self, job: &Job<'_>) -> Result<Parts, StageError> {
        let modelc = |stem: &String| job.input_dir(&input_of(stem), &format!("{stem}.mlmodelc"));
        let head =
            |(stem, rows): &(String, Range<u32>)| Ok(HeadPart { path: modelc(stem)?, rows: rows.clone() });
        Ok(Parts {
            embedding: job.input("embedding")?,
            layers: self.layers.iter().map(modelc).collect::<Result<_, _>>()?,
            heads: self.heads.iter().map(head).collect::<Result<_, StageError>>()?,
            tokenizer: job.input("tokenizer")?,
            ..self.numbers.clone()
        })
    }
}

/// What a gate on the whole model reads.
fn model_inputs(shards: &[Shard], whole: Whole) -> Inputs {
    let mut inputs = Inputs::from([
        ("embedding".to_owned(), output(whole.embedding, "tensors")),
        ("tokenizer".to_owned(), output(whole.tokenizer, "tokenizer")),
    ]);
    inputs.extend(shards.iter().map(|shard| (input_of(&shard.stem()), output(shard.compiled, "modelc"))));
    inputs
}

fn input_of(stem: &str) -> String {
    format!("modelc {stem}")
}
