//! What was measured, as data.

use anepipe_runtime::bundle::Bundle;
use anepipe_runtime::bundle::manifest::Role;
use anepipe_runtime::session::Model;
use serde::Serialize;

use super::figure::Figure;
use super::machine::Machine;

/// Version of the report's shape.
pub(super) const SCHEMA: u32 = 1;

/// Everything that was measured in one run. A figure that was not measured is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BenchReport {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// Version of the command.
    pub(crate) anepipe: String,
    pub(crate) machine: Machine,
    pub(crate) bundle: BundleFacts,
    /// What ran the shards.
    pub(crate) device: String,
    /// Times that each thing was measured.
    pub(crate) rounds: usize,
    pub(crate) load: Load,
    pub(crate) memory: MemoryFigures,
    pub(crate) passes: Vec<PassFigures>,
    pub(crate) costs: Vec<CostFigures>,
    pub(crate) prefill: Option<PrefillFigures>,
    pub(crate) decode: Option<DecodeFigures>,
}

/// What figures are of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BundleFacts {
    pub(crate) path: String,
    pub(crate) layers: u32,
    pub(crate) hidden: usize,
    pub(crate) vocab: usize,
    pub(crate) block: usize,
    pub(crate) widths: Vec<u32>,
    pub(crate) context: usize,
    pub(crate) quantization: String,
    /// Weights that a pass reads, layers and heads, scales included.
    pub(crate) weight_bytes: u64,
}

/// Once, before anything else.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(clippy::struct_field_names)] // they are keys, and seconds are all they have in common
pub(crate) struct Load {
    /// Hashing every file of the bundle.
    pub(crate) check_seconds: f64,
    /// Loading every shard on the device.
    pub(crate) model_seconds: f64,
    /// Making a session: its KV cache and buffers.
    pub(crate) session_seconds: f64,
}

/// The machine by itself. GB are 10⁹ bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MemoryFigures {
    pub(crate) buffer_bytes: u64,
    pub(crate) read_gbps: Option<Figure>,
    /// Bytes copied a second; each is read and written.
    pub(crate) copy_gbps: Option<Figure>,
    /// Reading the bundle's weights where they are mapped.
    pub(crate) weights_ms: Option<Figure>,
    pub(crate) weights_gbps: Option<Figure>,
}

/// A pass, its tokens' logits included.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PassFigures {
    pub(crate) tokens: usize,
    /// Slots of the program that ran it.
    pub(crate) width: usize,
    /// Tokens before it.
    pub(crate) context: usize,
    pub(crate) ms: Figure,
    pub(crate) weights_gbps: Figure,
    /// Its time in plain reads of the same weights.
    pub(crate) of_read: Option<Figure>,
    pub(crate) tokens_per_second: Figure,
}

/// What a pass over a block costs in passes over one token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CostFigures {
    pub(crate) context: usize,
    pub(crate) block: usize,
    pub(crate) c: Figure,
}

/// A prompt's way into an empty cache, the logits behind its last token included.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PrefillFigures {
    pub(crate) tokens: usize,
    /// Tokens a pass.
    pub(crate) width: usize,
    pub(crate) ms: Figure,
    pub(crate) tokens_per_second: Figure,
}

/// Decoding without drafts and with them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct DecodeFigures {
    /// Tokens behind each prompt.
    pub(crate) tokens: usize,
    /// Whether a prompt began with what drafts learned from the prompts before it.
    pub(crate) keep: bool,
    pub(crate) classes: Vec<ClassFigures>,
}

/// One class of prompts. Tokens a second are without the prompt and the first token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ClassFigures {
    pub(crate) class: String,
    pub(crate) prompts: usize,
    pub(crate) plain_tokens_per_second: Figure,
    pub(crate) speculative_tokens_per_second: Figure,
    /// Time without drafts over time with them: above 1, drafts are faster.
    pub(crate) ratio: Figure,
    pub(crate) tokens_per_pass: Option<f64>,
    /// What a drafted pass cost in plain passes; null where drafts never ran.
    pub(crate) cost: Option<f64>,
    /// Whether both ways gave the same tokens for every prompt in every round.
    pub(crate) equal: bool,
}

impl BundleFacts {
    pub(super) fn new(bundle: &Bundle, model: &Model, weight_bytes: u64) -> Self {
        let manifest = bundle.manifest();
        let layers = manifest.shards.iter().filter(|shard| shard.role == Role::Layers);
        Self {
            path: bundle.root().display().to_string(),
            layers: layers.map(|shard| shard.range[1]).max().unwrap_or_default(),
            hidden: model.hidden(),
            vocab: model.vocab(),
            block: model.block(),
            widths: manifest.widths.clone(),
            context: model.context(),
            quantization: manifest.quantization.clone(),
            weight_bytes,
        }
    }
}
