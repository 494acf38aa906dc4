//! Programs without weights: one action however many shards have that shape.

use std::ops::Range;

use super::{Inputs, Planner, STYLE, json_of, object, rope_dim};
use crate::action::Action;
use crate::build::options::Fault;
use crate::error::StageError;
use crate::event::{ActionId, Label};
use crate::stage::Stage;
use crate::stages::graph::{self, GraphSpec, HeadSpec, LayersSpec};

/// What tells the programs of one build apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    /// Decoder layers.
    Layers {
        /// How many.
        count: u32,
        /// Whether the output norm follows.
        output_norm: bool,
    },
    /// A slice of the LM head.
    Head {
        /// Rows of the vocabulary.
        rows: u32,
    },
}

impl Shape {
    /// The program of the slice `rows` of the head.
    pub(super) fn head(rows: &Range<u32>) -> Self {
        Self::Head { rows: rows.end - rows.start }
    }

    /// What people call it.
    fn subject(self) -> String {
        match self {
            Self::Layers { count, output_norm } => {
                let layers = if count == 1 { "layer" } else { "layers" };
                let norm = if output_norm { " and the output norm" } else { "" };
                format!("of {count} {layers}{norm}")
            }
            Self::Head { rows } => format!("of {rows} lm_head rows"),
        }
    }
}

impl Planner<'_> {
    /// The action that gives the program of `shape`.
    pub(super) fn shape(&mut self, shape: Shape) -> Result<ActionId, StageError> {
        if let Some(&known) = self.shapes.get(&shape) {
            return Ok(known);
        }
        let workers = self.workers;
        let spec = self.graph_spec(shape);
        let action = self.graph.add(Action {
            label: Label { stage: Stage::Graph, subject: shape.subject() },
            parameters: object(json_of(&spec)?),
            environment: object(json_of(workers.fingerprint())?),
            inputs: Inputs::new(),
            gates: Vec::new(),
            predictions_decide: false,
            run: Box::new(move |job| {
                let report = workers.with(|worker| graph::run(worker, &spec, job.scratch()))??;
                job.output("model", &job.scratch().join(graph::MODEL_FILE))?;
                job.output("blobs", &job.scratch().join(graph::BLOBS_FILE))?;
                job.output_json("report", &report)
            }),
        });
        self.shapes.insert(shape, action);
        Ok(action)
    }

    fn graph_spec(&self, shape: Shape) -> GraphSpec {
        let contract = self.model.contract();
        let (widths, quantization) = (self.options.all_widths(), self.options.quantization.into());
        let hidden = contract.hidden.value;
        match shape {
            Shape::Head { rows } => {
                GraphSpec::LmHead(HeadSpec { style: STYLE, widths, hidden, quantization, rows })
            }
            Shape::Layers { count, output_norm } => GraphSpec::Layers(LayersSpec {
                style: STYLE,
                widths,
                hidden,
                heads: contract.heads.value,
                kv_heads: contract.kv_heads.value,
                head_dim: contract.head_dim.value,
                ffn: contract.ffn.value,
                rope_dim: rope_dim(contract, self.options.fault),
                norm_eps: f64::from(contract.norm_eps.value),
                context: self.options.context,
                layers: count,
                quantization,
                output_norm,
                qkv_bias: false,
                fault: match self.options.fault {
                    Some(Fault::NoPermute) => Some(graph::Fault::NoPermute),
                    Some(Fault::RopeHeadDim) | None => None,
                },
            }),
        }
    }
}
