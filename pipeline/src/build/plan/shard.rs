//! A shard on its way from weights and a program to its compiled form.

use std::ops::Range;

use anepipe_runtime::bundle::manifest::Role;
use serde_json::json;

use super::shape::Shape;
use super::{Inputs, Planner, object, output};
use crate::action::Action;
use crate::build::ship::Shard;
use crate::error::StageError;
use crate::event::{ActionId, Label};
use crate::stage::Stage;
use crate::stages::convert;
use crate::topology::LayerRange;

impl Planner<'_> {
    /// Converts and compiles the layers `range` from one action of `weights` each, and the output norm, if it follows.
    pub(super) fn layer_shard(
        &mut self,
        range: LayerRange,
        mut weights: Vec<ActionId>,
        output_norm: Option<ActionId>,
    ) -> Result<Shard, StageError> {
        let shape = Shape::Layers { count: range.count(), output_norm: output_norm.is_some() };
        weights.extend(output_norm);
        self.shard(Role::Layers, [range.start(), range.end()], shape, &weights)
    }

    /// Converts and compiles the slice `rows` of the LM head.
    pub(super) fn head_shard(&mut self, rows: &Range<u32>, weights: ActionId) -> Result<Shard, StageError> {
        self.shard(Role::LmHead, [rows.start, rows.end], Shape::head(rows), &[weights])
    }

    /// Binds the program of `shape` to `weights`, slot by slot and then what belongs to no slot, and compiles it.
    fn shard(
        &mut self,
        role: Role,
        range: [u32; 2],
        shape: Shape,
        weights: &[ActionId],
    ) -> Result<Shard, StageError> {
        let graph = self.shape(shape)?;
        let mut inputs = Inputs::from([
            ("model".to_owned(), output(graph, "model")),
            ("blobs".to_owned(), output(graph, "blobs")),
        ]);
        let names: Vec<String> = (0..weights.len()).map(|index| format!("weights {index:03}")).collect();
        inputs.extend(names.iter().cloned().zip(weights.iter().map(|&action| output(action, "tensors"))));
        let subject = Shard::subject_of(role, range);
        let package = self.add(Stage::Convert, &subject, json!({}), inputs, move |job| {
            let weights: Result<Vec<_>, _> = names.iter().map(|name| job.input(name)).collect();
            let path = job.scratch().join("shard.mlpackage");
            convert::convert(&job.input("model")?, &job.input("blobs")?, &weights?, &path)?;
            job.output("package", &path)
        });

        let inputs = Inputs::from([("package".to_owned(), output(package, "package"))]);
        let compiler = &self.options.compiler;
        let compiled = self.graph.add(Action {
            label: Label { stage: Stage::Compile, subject },
            parameters: object(json!({"compiler": compiler.name()})),
            environment: compiler.environment(),
            inputs,
            gates: Vec::new(),
            predictions_decide: false,
            run: Box::new(move |job| {
                let path = job.scratch().join("shard.mlmodelc");
                compiler.run(&job.input_dir("package", "shard.mlpackage")?, &path)?;
                job.output("modelc", &path)
            }),
        });
        Ok(Shard { role, range, compiled })
    }
}
