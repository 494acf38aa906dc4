//! Everything that passed → the bundle, as one stored tree. Nothing is copied: the tree names what the store has.

use std::collections::BTreeMap;
use std::path::Path;

use anepipe_artifacts::{Artifact, Tree};
use anepipe_mil::modelc::ModelC;
use anepipe_mil::program::ValueType;
use anepipe_runtime::bundle::MANIFEST_FILE;
use anepipe_runtime::bundle::manifest::{
    FileEntry, GateEntry, Manifest, Provenance, Role, SCHEMA, ShardEntry,
};
use anepipe_runtime::rope::RopeSpec;

use crate::action::Job;
use crate::error::StageError;
use crate::event::ActionId;
use crate::stages::graph::Style;
use crate::stages::quantize::Quantization;

/// The bundle's name for the rows that the gates feed.
const TOKEN_EMBEDDINGS: &str = "token_embeddings.safetensors";

/// A shard's actions.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShippedShard {
    /// What it computes.
    pub(super) role: Role,
    /// Half-open range of layers or vocabulary rows.
    pub(super) range: [u32; 2],
    /// Gives `modelc`.
    pub(super) compiled: ActionId,
    /// Gives `report`.
    pub(super) parity: ActionId,
}

impl ShippedShard {
    /// The stem of its files: `layers_000_020`.
    pub(super) fn stem(&self) -> String {
        let role = match self.role {
            Role::Layers => "layers",
            Role::LmHead => "lm_head",
        };
        let [start, end] = self.range;
        format!("{role}_{start:03}_{end:03}")
    }
}

/// What the manifest says besides what the files say.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Facts {
    pub(super) style: Style,
    pub(super) block: u32,
    pub(super) widths: Vec<u32>,
    pub(super) context: u32,
    pub(super) quantization: Quantization,
    pub(super) rope: RopeSpec,
    pub(super) source: String,
    pub(super) versions: BTreeMap<String, String>,
}

/// Assembles the bundle from the job's inputs: `contract`, `token_embeddings`, and per shard `modelc STEM` and
/// `parity STEM`; per layer `quantize STEM`.
pub(super) fn run(job: &mut Job<'_>, shards: &[ShippedShard], facts: &Facts) -> Result<(), StageError> {
    let mut tree = Tree::new();
    let (mut shard_entries, mut gates) = (Vec::new(), Vec::new());
    for shard in shards {
        let stem = shard.stem();
        let path = format!("shards/{stem}.mlmodelc");
        let modelc = job.artifact(&format!("modelc {stem}"))?;
        tree.insert_tree(&path, &job.store().tree(&modelc)?).map_err(anepipe_artifacts::StoreError::from)?;
        let states = states(&job.input_dir(&format!("modelc {stem}"), &format!("{stem}.mlmodelc"))?)?;
        shard_entries.push(ShardEntry {
            role: shard.role,
            range: shard.range,
            path: path.clone(),
            digest: modelc.digest().to_string(),
            states,
        });
        let report = format!("reports/parity_{stem}.json");
        insert_blob(&mut tree, &report, job.artifact(&format!("parity {stem}"))?)?;
        let source = "measured".to_owned();
        gates.push(GateEntry { kind: "parity".to_owned(), shard: Some(path), report, pass: true, source });
    }
    for name in job
        .input_names()
        .filter_map(|name| name.strip_prefix("quantize ").map(str::to_owned))
        .collect::<Vec<_>>()
    {
        let report = job.artifact(&format!("quantize {name}"))?;
        insert_blob(&mut tree, &format!("reports/quantize_{name}.json"), report)?;
    }
    insert_blob(&mut tree, TOKEN_EMBEDDINGS, job.artifact("token_embeddings")?)?;
    let contract = job.artifact("contract")?;
    insert_blob(&mut tree, "contract.json", contract)?;

    let unreadable = |error: serde_json::Error| {
        StageError::Internal(format!("the stored contract is unreadable: {error}"))
    };
    let manifest = Manifest {
        schema: SCHEMA,
        contract: serde_json::from_slice(&job.store().read(&contract)?).map_err(unreadable)?,
        style: facts.style.name().to_owned(),
        block: facts.block,
        widths: facts.widths.clone(),
        context: facts.context,
        quantization: facts.quantization.name().to_owned(),
        shards: shard_entries,
        rope: facts.rope.clone(),
        token_embeddings: TOKEN_EMBEDDINGS.to_owned(),
        embedding: None,
        tokenizer: None,
        gates,
        files: files(&tree),
        provenance: Provenance { source: facts.source.clone(), versions: facts.versions.clone() },
    };
    let mut json = serde_json::to_vec_pretty(&manifest).map_err(unreadable)?;
    json.push(b'\n');
    insert_blob(&mut tree, MANIFEST_FILE, job.store().put_bytes(&json)?)?;
    let bundle = job.store().put_tree(&tree)?;
    job.output_stored("bundle", bundle);
    Ok(())
}

fn insert_blob(tree: &mut Tree, path: &str, artifact: Artifact) -> Result<(), StageError> {
    tree.insert_file(path, *artifact.digest(), artifact.size())
        .map_err(anepipe_artifacts::StoreError::from)?;
    Ok(())
}

/// Every file of the tree with its digest.
fn files(tree: &Tree) -> BTreeMap<String, FileEntry> {
    let file = |(path, digest, size): (&str, anepipe_artifacts::Digest, u64)| {
        (path.to_owned(), FileEntry { blake3: digest.to_string(), size })
    };
    tree.files().map(file).collect()
}

/// The names of a compiled program's states.
fn states(modelc: &Path) -> Result<Vec<String>, StageError> {
    let model = ModelC::open(modelc)?;
    let inputs = model.program().functions.values().flat_map(|function| &function.inputs);
    let mut names = Vec::new();
    for input in inputs.filter(|input| matches!(input.ty, ValueType::State(_))) {
        if !names.contains(&input.name) {
            names.push(input.name.clone());
        }
    }
    Ok(names)
}
