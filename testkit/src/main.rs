//! `anepipe-testkit`: makes test models from the command line.
//!
//! ```text
//! cargo run --release -p anepipe-testkit -- synth --preset phi-4-mini --layers 1 --vocab 1024 --type q8_0 --out layer.gguf
//! ```

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anepipe_testkit::{
    Encoding,
    synth::{Dimensions, Synth},
};
use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};

/// Makes test models.
#[derive(Parser)]
#[command(name = "anepipe-testkit", version, about)]
enum Command {
    /// Write a synthetic phi3 model: the right shape and metadata, random weights from a seed.
    Synth(SynthArgs),
}

#[derive(clap::Args)]
struct SynthArgs {
    /// Whose dimensions the model has.
    #[arg(long, value_enum, default_value = "tiny")]
    preset: Preset,
    /// Layers to write [default: the preset's: 32 or 2].
    #[arg(long)]
    layers: Option<u64>,
    /// Tokens in the vocabulary, 321 or more [default: the preset's: 200064 or 384]. The full embedding of phi-4-mini
    /// alone is 653 MB at 8 bits; take 1024 where only layers matter.
    #[arg(long)]
    vocab: Option<u64>,
    /// How matrices are stored.
    #[arg(long = "type", value_name = "TYPE", default_value = "q8_0", value_parser = ["f32", "f16", "q8_0", "q4_0"])]
    encoding: String,
    /// Seed of the weights; the same seed gives the same file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A head of its own in place of the tied embedding.
    #[arg(long)]
    untied: bool,
    /// Tensor to draw anew, all else the same; may be given again.
    #[arg(long, value_name = "TENSOR")]
    alter: Vec<String>,
    /// Split into files of at most this many tensors, called after the output: OUT-00001-of-0000N.gguf.
    #[arg(long, value_name = "N")]
    split_max_tensors: Option<usize>,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    #[value(name = "phi-4-mini")]
    Phi4Mini,
    Tiny,
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Synth(args) => synth(&args),
    }
}

#[allow(clippy::print_stderr)] // the one place that speaks to the person at the terminal
fn synth(args: &SynthArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut dims = match args.preset {
        Preset::Phi4Mini => Dimensions::phi_4_mini(),
        Preset::Tiny => Dimensions::tiny(),
    };
    dims.layers = args.layers.unwrap_or(dims.layers);
    dims.vocab = args.vocab.unwrap_or(dims.vocab);
    let Some(encoding) = Encoding::from_name(&args.encoding) else {
        bail!("no encoding is called {:?}", args.encoding);
    };
    let mut model = Synth::new(dims, encoding, args.seed)?;
    if args.untied {
        model = model.untied()?;
    }
    for tensor in &args.alter {
        model = model.reseed(tensor, args.seed.wrapping_add(1))?;
    }
    let files = match args.split_max_tensors {
        None => {
            model.write(&args.out)?;
            vec![args.out.clone()]
        }
        Some(max) => {
            let dir = args.out.parent().unwrap_or(Path::new(""));
            let stem = args.out.file_stem().and_then(|stem| stem.to_str());
            let stem = stem.with_context(|| format!("{} is no name for a file", args.out.display()))?;
            model.writer().write_split(dir, stem, max)?
        }
    };
    for file in files {
        let bytes =
            std::fs::metadata(&file).with_context(|| format!("cannot look at {}", file.display()))?.len();
        eprintln!("{}: {:.1} MB", file.display(), bytes as f64 / 1e6);
    }
    eprintln!("{:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
