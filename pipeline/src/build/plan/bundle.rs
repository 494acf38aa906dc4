//! The last action: everything that passed → the bundle.

use std::collections::BTreeMap;

use anepipe_artifacts::Digest;
use serde_json::Map;

use super::{Planner, STYLE, json_of, object, rope_of};
use crate::action::Action;
use crate::build::ship::{self, Cargo, Facts, Shard, Whole};
use crate::error::StageError;
use crate::event::{ActionId, Label};
use crate::stage::Stage;
use crate::stages::compile::Compiler;

impl Planner<'_> {
    /// Ships `shards`, which stand in the manifest in their order, with every report so far, behind every gate so far.
    pub(super) fn bundle(
        &mut self,
        contract: ActionId,
        token_embeddings: ActionId,
        whole: Option<Whole>,
        shards: Vec<Shard>,
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
        let cargo = Cargo {
            contract,
            token_embeddings,
            whole,
            shards,
            quantize_reports: std::mem::take(&mut self.quantize_reports),
            gates: std::mem::take(&mut self.gates),
        };
        Ok(self.graph.add(Action {
            label: Label { stage: Stage::Ship, subject: "bundle".to_owned() },
            parameters: object(json_of(&facts)?),
            environment: Map::new(),
            inputs: cargo.inputs(),
            gates: cargo.gates.iter().map(|gate| gate.action).collect(),
            predictions_decide: false,
            run: Box::new(move |job| ship::run(job, &cargo, &facts)),
        }))
    }

    /// One digest for everything that shards and tables were made of.
    fn source(&self) -> String {
        let mut lines = String::new();
        for (name, digest) in &self.digests {
            lines.extend([name.as_str(), " ", &digest.to_string(), "\n"]);
        }
        Digest::of_bytes(lines.as_bytes()).to_string()
    }

    fn versions(&self) -> BTreeMap<String, String> {
        let python = self.workers.fingerprint();
        let fixed: [(&str, &str); 4] = [
            ("anepipe", env!("CARGO_PKG_VERSION")),
            ("coremltools", &python.coremltools),
            ("numpy", &python.numpy),
            ("protobuf", &python.protobuf),
        ];
        let apple = match &self.options.compiler {
            Compiler::Apple(apple) => &apple.fingerprint().entries()[..],
            Compiler::Portable => &[],
        };
        let all = fixed.iter().chain(apple);
        all.map(|&(name, version)| (name.to_owned(), version.to_owned())).collect()
    }
}
