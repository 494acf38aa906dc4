//! `manifest.json`: what a bundle is made of and what was proven of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rope::RopeSpec;

/// The manifest schema this code reads and writes.
pub const SCHEMA: u32 = 1;

/// What a bundle is made of. Every path is relative to the bundle and uses `/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this shape, [`SCHEMA`].
    pub schema: u32,
    /// Every number of the model, each with the key it came from (`contract.json`).
    pub contract: serde_json::Value,
    /// How the graphs are authored; `stateful` keeps the KV cache in the program's states.
    pub style: String,
    /// Tokens a pass verifies, T.
    pub block: u32,
    /// Tokens a pass can take: one function `t<width>` of every shard each, or `main` where there is one.
    pub widths: Vec<u32>,
    /// Positions the KV cache holds, S.
    pub context: u32,
    /// How weights are stored: `int8`, `int8-per-tensor` or `f16`.
    pub quantization: String,
    /// Compiled programs, in the order in which hidden states pass through them.
    pub shards: Vec<ShardEntry>,
    /// What rotary tables are made of.
    pub rope: RopeSpec,
    /// safetensors with the embeddings of the tokens the gates look at, as `hidden`, `[tokens, d]` fp16.
    pub token_embeddings: String,
    /// safetensors with the whole embedding, as `embedding`, `[vocab, d]` fp16; only in whole-model bundles.
    pub embedding: Option<String>,
    /// Tokenizer metadata; only in whole-model bundles.
    pub tokenizer: Option<String>,
    /// Every gate that was run.
    pub gates: Vec<GateEntry>,
    /// Every other file of the bundle.
    pub files: BTreeMap<String, FileEntry>,
    /// Where it came from.
    pub provenance: Provenance,
}

/// One compiled program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// What it computes.
    pub role: Role,
    /// Half-open: layers of a `layers` shard, vocabulary rows of an `lm_head` shard.
    pub range: [u32; 2],
    /// The `.mlmodelc` folder.
    pub path: String,
    /// blake3 of the folder's sorted record of entries.
    pub digest: String,
    /// Names of its states, in program order.
    pub states: Vec<String>,
}

/// What a shard computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Hidden states from hidden states.
    Layers,
    /// Logits from hidden states.
    LmHead,
}

/// One gate's outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateEntry {
    /// `parity`, `residency`, `golden` or `exact`.
    pub kind: String,
    /// Path of the shard it looked at; absent for a gate on the whole bundle.
    pub shard: Option<String>,
    /// Path of its report.
    pub report: String,
    /// Its verdict.
    pub pass: bool,
    /// `measured` on the device named in the report, or `predicted`.
    pub source: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// blake3 of its bytes, in hexadecimal.
    pub blake3: String,
    /// Bytes.
    pub size: u64,
}

/// Where a bundle came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// blake3 of the names and digests of the tensors that shards and embedding were made of.
    pub source: String,
    /// Tool versions by name.
    pub versions: BTreeMap<String, String>,
}
