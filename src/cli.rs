//! The command line as clap reads it. Nothing is decided here; commands turn these into validated options.

// Doc comments here are what `--help` prints, to people who read a terminal and not Markdown.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

use anepipe_pipeline::stages::quantize::Quantization;
use anepipe_pipeline::topology::{LayerRange, Topology};
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
  20 parity · 21 residency · 22 golden · 23 exactness
  30 Python or toolchain · 31 a stage crashed
  40 store corrupt · 41 store busy · 42 remote · 43 no room or no right to write
  70 a bug in anepipe

A first build:
  anepipe build --model model.gguf --layers 0..2 --out out
  anepipe gate parity --bundle out";

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
}

#[derive(Debug, Args)]
pub(crate) struct GateParity {
    /// The bundle [default: build.out of the project file]
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
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
