//! `anepipe gate`: one gate on a bundle again.

mod exact;
mod golden;
mod parity;
mod range;
mod residency;

use std::path::Path;

use anepipe_pipeline::config::Config;
use anepipe_pipeline::error::StageError;
use anepipe_pipeline::gates::exact::{Prompt, default_prompts, read_prompts};

use crate::cli::{Gate, Global};
use crate::exit::Exit;
use crate::output::Output;

pub(crate) fn run(global: &Global, gate: &Gate, output: Output) -> anyhow::Result<Exit> {
    match gate {
        Gate::Parity(arguments) => parity::run(global, arguments, output),
        Gate::Residency(arguments) => residency::run(global, arguments, output),
        Gate::Exact(arguments) => exact::run(global, arguments, output),
        Gate::Golden(arguments) => golden::run(global, arguments, output),
        Gate::Range(arguments) => range::run(global, arguments, output),
    }
}

/// The first `limit` of the prompts that were named, or that the project names, or of those that are built in.
pub(crate) fn prompts(
    named: Option<&Path>,
    limit: Option<usize>,
    config: &Config,
) -> Result<Vec<Prompt>, StageError> {
    let mut prompts = match named.or(config.gates.exact.prompts.as_deref()) {
        Some(path) => read_prompts(path)?,
        None => default_prompts(),
    };
    prompts.truncate(limit.unwrap_or(prompts.len()));
    Ok(prompts)
}
