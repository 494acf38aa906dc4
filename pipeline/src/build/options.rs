//! What a build is asked to do.

use std::path::PathBuf;

use crate::gates::exact::{Prompt, default_prompts};
use crate::gates::golden::{DEFAULT_TEXT, DEFAULT_TOKENS, GoldenThresholds, TextSource};
use crate::gates::parity::ParityThresholds;
use crate::gates::residency::Target;
use crate::stages::compile::Compiler;
use crate::stages::quantize::Quantization;
use crate::stages::residency::Require;
use crate::topology::{LayerRange, Topology};

/// What to build. Defaults are those of the command line.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// GGUF file, any file of a split one.
    pub model: PathBuf,
    /// Layers to build; all when absent.
    pub layers: Option<LayerRange>,
    /// How layers are cut into shards.
    pub topology: Topology,
    /// Tokens a pass verifies, T.
    pub block: u32,
    /// Other numbers of tokens that a pass can take, each as one more function over the same weights.
    pub widths: Vec<u32>,
    /// Positions the KV cache holds, S.
    pub context: u32,
    /// How weights are stored.
    pub quantization: Quantization,
    /// What compiles packages.
    pub compiler: Compiler,
    /// Tokens whose embeddings the gates feed; chosen from the vocabulary when absent.
    pub token_ids: Option<Vec<u32>>,
    /// What the parity gate demands.
    pub parity: ParityThresholds,
    /// What the residency gate asks about and demands.
    pub residency: ResidencyOptions,
    /// What the golden gate reads and demands; only a build of the whole model has one.
    pub golden: GoldenOptions,
    /// What the exactness gate decodes; only a build of the whole model has one.
    pub exact: ExactOptions,
    /// A deliberate fault that the gates must catch. Nothing but tests sets it.
    pub fault: Option<Fault>,
}

/// What the residency gate asks about and demands.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResidencyOptions {
    /// The machine that predictions are about.
    pub target: Target,
    /// What stops a ship.
    pub require: Require,
}

/// What the golden gate reads and demands.
#[derive(Debug, Clone)]
pub struct GoldenOptions {
    /// The text, and where it comes from.
    pub text: (String, TextSource),
    /// Tokens of it at most.
    pub tokens: usize,
    /// What is demanded.
    pub thresholds: GoldenThresholds,
}

impl Default for GoldenOptions {
    fn default() -> Self {
        let text = (DEFAULT_TEXT.to_owned(), TextSource::BuiltIn);
        Self { text, tokens: DEFAULT_TOKENS, thresholds: GoldenThresholds::default() }
    }
}

/// What the exactness gate decodes.
#[derive(Debug, Clone, Default)]
pub struct ExactOptions {
    /// What is gone on from.
    pub prompts: Vec<Prompt>,
    /// Tokens behind each prompt.
    pub max_new: usize,
}

/// Prompts that a build decodes if nothing else is said: enough to see that drafts change nothing, few enough for a model of
/// billions of weights.
pub const BUILD_PROMPTS: usize = 8;
/// Tokens behind each of them.
pub const BUILD_MAX_NEW: usize = 32;

/// The default of `--block`.
pub const DEFAULT_BLOCK: u32 = 4;
/// The default of `--context`.
pub const DEFAULT_CONTEXT: u32 = 2048;

/// A deliberate fault in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The attention output is reshaped without being permuted first, which mixes token positions into channels.
    NoPermute,
    /// The whole head is rotated, whatever the model says.
    RopeHeadDim,
}

impl BuildOptions {
    /// A build of every layer of `model`, with defaults.
    pub fn new(model: PathBuf) -> Self {
        Self {
            model,
            layers: None,
            topology: Topology::Auto,
            block: DEFAULT_BLOCK,
            widths: vec![1],
            context: DEFAULT_CONTEXT,
            quantization: Quantization::Int8,
            compiler: Compiler::Portable,
            token_ids: None,
            parity: ParityThresholds::default(),
            residency: ResidencyOptions::default(),
            golden: GoldenOptions::default(),
            exact: ExactOptions { prompts: default_prompts(), max_new: BUILD_MAX_NEW },
            fault: None,
        }
    }

    /// Every number of tokens that a pass can take, smallest first; `block` is one of them.
    pub fn all_widths(&self) -> Vec<u32> {
        let mut widths = self.widths.clone();
        widths.push(self.block);
        widths.sort_unstable();
        widths.dedup();
        widths
    }
}
