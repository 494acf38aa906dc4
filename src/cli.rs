//! The command line as clap reads it. Nothing is decided here; commands turn these into validated options.

// Doc comments here are what `--help` prints, to people who read a terminal and not Markdown.
#![allow(clippy::doc_markdown)]

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anepipe_pipeline::gates::residency::{Chip, Os};
use anepipe_pipeline::stages::compile::CompilerKind;
use anepipe_pipeline::stages::quantize::Quantization;
use anepipe_pipeline::stages::residency::Require;
use anepipe_pipeline::topology::{LayerRange, Topology};
use anepipe_runtime::device::DeviceKind;
use anepipe_runtime::portable::Isa;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Builds, proves and ships language-model shards for Apple's Neural Engine.
#[derive(Debug, Parser)]
#[command(name = "anepipe", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0 ok · 2 usage · 10 bad input file · 11 unsupported model
  20 parity · 21 residency · 22 golden · 23 exactness · 24 range
  30 Python or toolchain · 31 a stage crashed
  40 store corrupt · 41 store busy · 42 remote · 43 no room or no right to write
  70 a bug in anepipe

A first build:
  anepipe build --model model.gguf --out out
  anepipe gate exact --bundle out
  anepipe generate --bundle out --prompt \"def main():\"
  anepipe report --bundle out --out report.html";

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Project file; its settings are defaults for the options below
    #[arg(long, global = true, value_name = "FILE", default_value = "anepipe.toml")]
    pub(crate) config: PathBuf,
    /// Artifact store [default: $XDG_CACHE_HOME/anepipe]
    #[arg(long, global = true, value_name = "DIR", env = "ANEPIPE_CACHE_DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// What stdout carries: words, or one JSON document. Progress and messages always go to stderr
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Say more, such as why each stage runs
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Color messages
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
}

/// What stdout carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// When to color.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build shards from a GGUF model, prove them, and ship a bundle
    Build(Box<Build>),
    /// Run one gate on a bundle again and print its report
    #[command(subcommand)]
    Gate(Gate),
    /// Decode with a bundle of a whole model, and print the text as it comes
    Generate(Box<Generate>),
    /// Measure a bundle of a whole model: passes, prefill and decoding, beside a plain read of memory
    Bench(Box<Bench>),
    /// Say why each action of a build would run
    Explain(Explain),
    /// Print the graph of actions of a build
    Graph(Graph),
    /// Look after the artifact store
    #[command(subcommand)]
    Cache(Cache),
    /// Describe a GGUF, safetensors, .mlpackage, .mlmodelc or bundle in words
    Inspect(Inspect),
    /// Compile an .mlpackage to an .mlmodelc without Apple's tools
    Compile(Compile),
    /// Write what a bundle is and what its gates say as one HTML page
    Report(Report),
    /// Serve Python stages on stdin and stdout; started by builds, not by people
    #[command(hide = true)]
    PythonWorker,
}

/// What to build; shared by `build`, `explain` and `graph`.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// GGUF model; any file of a split one [default: model.path of the project file]
    #[arg(long, value_name = "F.gguf")]
    pub(crate) model: Option<PathBuf>,
    /// Layers to build, half-open [default: all]
    #[arg(long, value_name = "A..B")]
    pub(crate) layers: Option<LayerRange>,
    /// Layers per shard, as in 20+4+6+2, or auto: the fewest even shards under the Neural Engine's limits
    #[arg(long, value_name = "A+B+…|auto")]
    pub(crate) topology: Option<Topology>,
    /// Tokens a pass verifies, T [default: 4]
    #[arg(long, value_name = "T")]
    pub(crate) block: Option<u32>,
    /// Other numbers of tokens a pass can take, over the same weights [default: 1]
    #[arg(long, value_name = "T,…", value_delimiter = ',')]
    pub(crate) widths: Option<Vec<u32>>,
    /// Positions the KV cache holds, S [default: 2048]
    #[arg(long, value_name = "S")]
    pub(crate) context: Option<u32>,
    /// How weights are stored [default: int8]
    #[arg(long, value_name = "int8|int8-per-tensor|f16")]
    pub(crate) quantize: Option<Quantization>,
    /// What compiles shards: the compiler of anepipe, or Xcode's [default: portable; on a Mac apple]
    #[arg(long, value_name = "portable|apple")]
    pub(crate) compiler: Option<CompilerKind>,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

/// The machine that residency is predicted for.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Machine {
    /// Chip that residency is predicted for, m1 to m5 or a14 to a18 [default: target.chip of the project file, else m4]
    #[arg(long, value_name = "CHIP")]
    pub(crate) chip: Option<Chip>,
    /// Its macOS, 15, 26 or 27 [default: target.os of the project file, else 26]
    #[arg(long, value_name = "N")]
    pub(crate) os: Option<Os>,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Where the bundle goes [default: out]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Actions at once [default: the number of cores]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// Say what would run, and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Run every stage, whatever the store has
    #[arg(long)]
    pub(crate) force: bool,
    /// After a failure: start nothing more; go on with what does not depend on it; or let failed gates stop only the ship
    #[arg(long, value_enum, default_value_t = KeepGoing::Never, value_name = "WHEN")]
    pub(crate) keep_going: KeepGoing,
    /// Write every event to this file, one JSON object a line
    #[arg(long, value_name = "F")]
    pub(crate) events: Option<PathBuf>,
    /// Write a Chrome trace of the stages to this file (open it in Perfetto)
    #[arg(long, value_name = "F")]
    pub(crate) trace: Option<PathBuf>,
    /// Write a JUnit report of the stages to this file
    #[arg(long, value_name = "F")]
    pub(crate) junit: Option<PathBuf>,
}

/// What a failure stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeepGoing {
    Never,
    Dependents,
    Always,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Gate {
    /// Does each position compute the same whatever else is in the pass and in the cache?
    Parity(GateParity),
    /// Will every operation run on the Neural Engine? Predicted here, measured on a Mac
    Residency(GateResidency),
    /// Does speculative decoding give the tokens of plain decoding?
    Exact(GateExact),
    /// Do the shards say what an independent forward of the model file says?
    Golden(GateGolden),
    /// Does every value stay in the range of fp16 and of the Neural Engine's int8 products, over given prompts?
    Range(GateRange),
}

/// What runs shards; shared by every command that does.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Runs {
    /// What runs the shards: any CPU, or Core ML on a Mac
    #[arg(long, value_name = "portable|coreml", default_value_t = DeviceKind::Portable)]
    pub(crate) device: DeviceKind,
    /// Threads of the portable device [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Instructions that the portable device may use; changes speed and never a bit [default: the best this machine has]
    #[arg(long, value_name = "NAME", value_parser = isa)]
    pub(crate) isa: Option<Isa>,
}

/// An instruction set of this machine, by its name.
fn isa(name: &str) -> Result<Isa, String> {
    let names = || Isa::available().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
    Isa::by_name(name).ok_or_else(|| format!("this machine has {}", names()))
}

#[derive(Debug, Args)]
pub(crate) struct GateParity {
    /// The bundle [default: build.out of the project file]
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) runs: Runs,
}

#[derive(Debug, Args)]
pub(crate) struct GateResidency {
    /// The bundle [default: build.out of the project file]
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// What will do: any report that passes, or only one that a device measured
    #[arg(long, value_name = "any|measured", default_value_t = Require::Any)]
    pub(crate) require: Require,
    /// On a Mac: hold predictions to the device, and write what it did to this file, for calibration
    #[arg(long, value_name = "F.json")]
    pub(crate) vs_predicted: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GateExact {
    /// The bundle, of a whole model [default: build.out of the project file]
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) runs: Runs,
    /// Prompts, a JSON object a line: text, prompt, turns or prompt_ids [default: gates.exact.prompts of the project file]
    #[arg(long, value_name = "F.jsonl")]
    pub(crate) prompts: Option<PathBuf>,
    /// Prompts at most [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Tokens to generate behind each prompt
    #[arg(long, value_name = "N", default_value_t = anepipe_pipeline::stages::exact::DEFAULT_MAX_NEW)]
    pub(crate) max_new: usize,
}

#[derive(Debug, Args)]
pub(crate) struct GateGolden {
    /// The bundle, of a whole model [default: build.out of the project file]
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) runs: Runs,
    /// The GGUF file that the bundle was built from [default: model.path of the project file]
    #[arg(long, value_name = "F.gguf")]
    pub(crate) model: Option<PathBuf>,
    /// The text that both sides read [default: gates.golden.text of the project file, else a built-in one]
    #[arg(long, value_name = "F.txt")]
    pub(crate) text: Option<PathBuf>,
    /// Tokens of the text at most [default: 128]
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct GateRange {
    /// The bundle, of a whole model [default: build.out of the project file]
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// Prompts, a JSON object a line: text, prompt, turns or prompt_ids [default: gates.exact.prompts of the project file]
    #[arg(long, value_name = "F.jsonl")]
    pub(crate) prompts: Option<PathBuf>,
    /// Prompts at most [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["prompt", "prompt_ids"])))]
pub(crate) struct Generate {
    /// The bundle, of a whole model [default: build.out of the project file]
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) runs: Runs,
    /// Text to go on from; - reads it from stdin
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    /// Token ids to go on from
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub(crate) prompt_ids: Option<Vec<u32>>,
    /// Put the prompt into the model's chat template, as what the user says
    #[arg(long, requires = "prompt")]
    pub(crate) chat: bool,
    /// What the template's system message says
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub(crate) system: Option<String>,
    /// Tokens to generate at most
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_new: usize,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Go on where the model ends its text
    #[arg(long)]
    pub(crate) ignore_eos: bool,
    /// Where drafts come from; changes speed and never the text
    #[arg(long, value_enum, default_value_t = Drafts::Ngram, value_name = "HOW")]
    pub(crate) draft: Drafts,
    /// Keep what followed what in this file, and draft from it the next time
    #[arg(long, value_name = "FILE")]
    pub(crate) draft_table: Option<PathBuf>,
    /// 0 takes the likeliest token; above, tokens are drawn
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Draw from this many likeliest tokens; 0 is no limit
    #[arg(long, value_name = "K", default_value_t = 40)]
    pub(crate) top_k: usize,
    /// Draw from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95, allow_negative_numbers = true)]
    pub(crate) top_p: f64,
    /// Draw from tokens at least this likely, as a share of the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.05, allow_negative_numbers = true)]
    pub(crate) min_p: f64,
    /// Equal seeds draw equal texts, with drafts and without
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Write a Chrome trace of every kernel to this file (open it in Perfetto), and print the sums
    #[arg(long, value_name = "F")]
    pub(crate) trace: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = BENCH_AFTER_HELP)]
pub(crate) struct Bench {
    /// The bundle, of a whole model [default: build.out of the project file]
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) runs: Runs,
    /// Times that each thing is measured
    #[arg(long, value_name = "N", default_value = "5")]
    pub(crate) rounds: NonZeroUsize,
    /// Tokens that stand before a pass; what does not fit the bundle's context becomes what just fits
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [0, 1900])]
    pub(crate) contexts: Vec<usize>,
    /// Tokens of the prompt whose prefill is timed; 0 leaves that out
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) prefill: usize,
    /// Tokens to decode behind each prompt, without and with drafts; 0 leaves that out
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) tokens: usize,
    /// Prompts to decode behind, a JSON object a line: text, prompt, turns or prompt_ids, and class [default: gates.exact.prompts of the project file, else eight built-in ones]
    #[arg(long, value_name = "F.jsonl")]
    pub(crate) prompts: Option<PathBuf>,
    /// Prompts of each class at most [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) per_class: Option<usize>,
    /// Begin each prompt with what drafts learned from those before it in its round, as a process that serves one after the other would: a draft table, and what a pass over a draft costs
    #[arg(long)]
    pub(crate) keep: bool,
    /// Memory that the plain read goes over, MiB; several times the processor's caches, or it is they that are measured
    #[arg(long, value_name = "MIB", default_value = "1024")]
    pub(crate) memory: NonZeroUsize,
}

const BENCH_AFTER_HELP: &str = "\
How to read it:
  Each round measures everything once, one thing after the other, so that a machine whose speed drifts
  is slow or fast for all alike. Figures are medians over rounds; JSON has least and most as well.

  A pass that verifies tokens reads every weight once. So its time stands beside that of a plain read of
  the same weights: 1.0 would be a pass at the speed of memory. c is what a pass over T tokens costs in
  passes over one; drafts pay if they bring more than c tokens a pass.

Examples:
  anepipe bench --bundle out
  anepipe bench --bundle out --rounds 9 --tokens 128 --prompts prompts.jsonl
  anepipe bench --bundle out --contexts 0 --prefill 0 --tokens 0 --format json    (passes alone)";

/// Where drafts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Drafts {
    /// Nowhere: one token a pass.
    Off,
    /// From the text so far.
    Ngram,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Only actions whose name contains this, as in "quantize layer 3"
    #[arg(value_name = "ACTION")]
    pub(crate) action: Option<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// How to print it
    #[arg(long = "as", value_enum, default_value_t = GraphStyle::Dot, value_name = "STYLE")]
    pub(crate) style: GraphStyle,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphStyle {
    Dot,
    Mermaid,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// How much is stored, and how much of it is in use
    Stat,
    /// Delete what was used longest ago until the store fits a budget
    Gc {
        /// GiB to keep at most
        #[arg(long, value_name = "GIB", default_value_t = 20)]
        keep: u64,
        /// Never delete what was used within this many hours
        #[arg(long, value_name = "HOURS", default_value_t = 24)]
        grace: u64,
        /// Say what would go, and delete nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Hash every object again and report what is damaged
    Verify {
        /// Set damaged objects aside, so that the next build makes them anew
        #[arg(long)]
        repair: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// GGUF, safetensors, .mlpackage, .mlmodelc, or a bundle
    pub(crate) file: PathBuf,
    /// Print the whole program as MIL text (.mlpackage and .mlmodelc)
    #[arg(long)]
    pub(crate) mil: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Compile {
    /// An .mlpackage that holds an ML Program
    #[arg(value_name = "IN.mlpackage")]
    pub(crate) package: PathBuf,
    /// Where the compiled model goes; replaced whole if it exists
    #[arg(value_name = "OUT.mlmodelc")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The bundle [default: build.out of the project file]
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// Where the page goes; a file that is there is replaced
    #[arg(long, value_name = "F.html", default_value = "report.html")]
    pub(crate) out: PathBuf,
}
