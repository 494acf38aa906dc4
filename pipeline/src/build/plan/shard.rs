//! A shard on its way from weights and a program to its compiled form.

use std::ops::Range;
use std::path::PathBuf;

use anepipe_artifacts::{Artifact, StoreError, Tree};
use anepipe_mil::package::{self, place};
use anepipe_runtime::bundle::manifest::Role;
use serde_json::json;

use super::shape::Shape;
use super::{Inputs, Planner, object, output};
use crate::action::{Action, Job};
use crate::build::ship::Shard;
use crate::error::StageError;
use crate::event::{ActionId, Label};
use crate::stage::Stage;
use crate::stages::convert::{self, ConvertError};
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
            let package = package(job, &weights?)?;
            job.output_stored("package", package);
            Ok(())
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

/// The package of a job's program and `weights`, as a stored tree: the program is there already, and the weight file is hashed
/// while it is written.
fn package(job: &Job<'_>, weights: &[PathBuf]) -> Result<Artifact, StageError> {
    let mut writer = job.store().blob_writer()?;
    convert::write_weights(&job.input("blobs")?, weights, &mut writer)?;
    let manifest = job.store().put_bytes(&package::manifest().map_err(ConvertError::from)?)?;
    let files = [
        (place::MANIFEST, manifest),
        (place::MODEL, job.artifact("model")?),
        (place::WEIGHTS, writer.finish()?),
    ];
    let mut tree = Tree::new();
    for (path, artifact) in files {
        tree.insert_file(path, *artifact.digest(), artifact.size()).map_err(StoreError::from)?;
    }
    Ok(job.store().put_tree(&tree)?)
}
