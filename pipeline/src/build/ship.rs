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

use crate::action::{Input, Job};
use crate::error::StageError;
use crate::event::ActionId;
use crate::stage::Stage;
use crate::stages::graph::Style;
use crate::stages::quantize::Quantization;
use crate::verdict::Verdict;

/// The bundle's name for the rows that the gates feed.
const TOKEN_EMBEDDINGS: &str = "token_embeddings.safetensors";

/// The bundle's names for what only a bundle of the whole model has.
const EMBEDDING: &str = "embedding.safetensors";
const TOKENIZER: &str = "tokenizer.json";

/// A compiled shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shard {
    /// What it computes.
    pub(super) role: Role,
    /// Half-open range of layers or vocabulary rows.
    pub(super) range: [u32; 2],
    /// Gives `modelc`.
    pub(super) compiled: ActionId,
}

impl Shard {
    /// What people call it: `layers 0..20`, `lm_head 0..50016`.
    pub(super) fn subject(&self) -> String {
        Self::subject_of(self.role, self.range)
    }

    /// The stem of its files: `layers_000_020`.
    pub(super) fn stem(&self) -> String {
        Self::stem_of(self.role, self.range)
    }

    /// [`subject`](Self::subject) of a shard to be.
    pub(super) fn subject_of(role: Role, [start, end]: [u32; 2]) -> String {
        format!("{} {start}..{end}", name_of(role))
    }

    /// [`stem`](Self::stem) of a shard to be.
    pub(super) fn stem_of(role: Role, [start, end]: [u32; 2]) -> String {
        format!("{}_{start:03}_{end:03}", name_of(role))
    }

    fn input(&self) -> String {
        format!("modelc {}", self.stem())
    }
}

fn name_of(role: Role) -> &'static str {
    match role {
        Role::Layers => "layers",
        Role::LmHead => "lm_head",
    }
}

/// A gate that must pass before the bundle ships.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    /// Which.
    pub(super) stage: Stage,
    /// The stem of the shard it looks at; none for the whole model.
    pub(super) shard: Option<String>,
    /// Gives `report`.
    pub(super) action: ActionId,
}

impl Gate {
    /// Stem of its report: `parity_layers_000_020`, or the gate's name alone.
    fn stem(&self) -> String {
        match &self.shard {
            Some(shard) => format!("{}_{shard}", self.stage.name()),
            None => self.stage.name().to_owned(),
        }
    }

    fn input(&self) -> String {
        format!("gate {}", self.stem())
    }
}

/// What only a bundle of the whole model has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole {
    /// Gives `tensors`.
    pub(super) embedding: ActionId,
    /// Gives `tokenizer`.
    pub(super) tokenizer: ActionId,
}

/// What a bundle is made of, as the actions that give it.
#[derive(Debug)]
pub(super) struct Cargo {
    /// Gives `contract`.
    pub(super) contract: ActionId,
    /// Gives `tensors`.
    pub(super) token_embeddings: ActionId,
    /// Absent in a bundle of some layers.
    pub(super) whole: Option<Whole>,
    /// In the order in which hidden states pass, then in that of the vocabulary.
    pub(super) shards: Vec<Shard>,
    /// Actions that give `report`, by the stem of its file without `quantize_`.
    pub(super) quantize_reports: Vec<(String, ActionId)>,
    /// In the manifest's order.
    pub(super) gates: Vec<Gate>,
}

impl Cargo {
    /// The inputs of the ship, by the names under which [`run`] takes them.
    pub(super) fn inputs(&self) -> BTreeMap<String, Input> {
        let mut inputs = BTreeMap::new();
        let mut add = |input: String, action, name| inputs.insert(input, Input::Output { action, name });
        add("contract".to_owned(), self.contract, "contract");
        add("token_embeddings".to_owned(), self.token_embeddings, "tensors");
        if let Some(whole) = self.whole {
            add("embedding".to_owned(), whole.embedding, "tensors");
            add("tokenizer".to_owned(), whole.tokenizer, "tokenizer");
        }
        for shard in &self.shards {
            add(shard.input(), shard.compiled, "modelc");
        }
        for gate in &self.gates {
            add(gate.input(), gate.action, "report");
        }
        for (stem, action) in &self.quantize_reports {
            add(format!("quantize {stem}"), *action, "report");
        }
        inputs
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

/// Assembles the bundle from the job's inputs, which are those of `cargo`.
pub(super) fn run(job: &mut Job<'_>, cargo: &Cargo, facts: &Facts) -> Result<(), StageError> {
    let unreadable = |error: serde_json::Error| {
        StageError::Internal(format!("a stored JSON document is unreadable: {error}"))
    };
    let mut tree = Tree::new();
    let mut shards = Vec::new();
    for shard in &cargo.shards {
        let path = shard_path(&shard.stem());
        let modelc = job.artifact(&shard.input())?;
        tree.insert_tree(&path, &job.store().tree(&modelc)?).map_err(anepipe_artifacts::StoreError::from)?;
        let states = states(&job.input_dir(&shard.input(), &format!("{}.mlmodelc", shard.stem()))?)?;
        let digest = modelc.digest().to_string();
        shards.push(ShardEntry { role: shard.role, range: shard.range, path, digest, states });
    }
    let mut gates = Vec::new();
    for gate in &cargo.gates {
        let report = format!("reports/{}.json", gate.stem());
        let stored = job.artifact(&gate.input())?;
        let Verdict { pass, source, .. } = Verdict::of(&job.store().read(&stored)?).map_err(unreadable)?;
        insert_blob(&mut tree, &report, stored)?;
        let shard = gate.shard.as_deref().map(shard_path);
        gates.push(GateEntry { kind: gate.stage.name().to_owned(), shard, report, pass, source });
    }
    for (stem, _) in &cargo.quantize_reports {
        let report = job.artifact(&format!("quantize {stem}"))?;
        insert_blob(&mut tree, &format!("reports/quantize_{stem}.json"), report)?;
    }
    if cargo.whole.is_some() {
        insert_blob(&mut tree, EMBEDDING, job.artifact("embedding")?)?;
        insert_blob(&mut tree, TOKENIZER, job.artifact("tokenizer")?)?;
    }
    insert_blob(&mut tree, TOKEN_EMBEDDINGS, job.artifact("token_embeddings")?)?;
    let contract = job.artifact("contract")?;
    insert_blob(&mut tree, "contract.json", contract)?;

    let manifest = Manifest {
        schema: SCHEMA,
        contract: serde_json::from_slice(&job.store().read(&contract)?).map_err(unreadable)?,
        style: facts.style.name().to_owned(),
        block: facts.block,
        widths: facts.widths.clone(),
        context: facts.context,
        quantization: facts.quantization.name().to_owned(),
        shards,
        rope: facts.rope.clone(),
        token_embeddings: TOKEN_EMBEDDINGS.to_owned(),
        embedding: cargo.whole.map(|_| EMBEDDING.to_owned()),
        tokenizer: cargo.whole.map(|_| TOKENIZER.to_owned()),
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

/// Where in the bundle the shard of that stem lies.
fn shard_path(stem: &str) -> String {
    format!("shards/{stem}.mlmodelc")
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
