//! `anepipe bench`.

use std::collections::HashMap;
use std::time::Instant;

use anepipe_pipeline::config::Config;
use anepipe_pipeline::gates::exact::Prompt;
use anepipe_runtime::device::DeviceKind;
use anepipe_runtime::portable::Isa;

use super::device::{self, tell_loads};
use super::{bundle, gate};
use crate::bench::{self, Machine, Options};
use crate::cli::{self, Global};
use crate::exit::Exit;
use crate::output::progress::Counter;
use crate::output::{self, Output};

pub(crate) fn run(global: &Global, arguments: &cli::Bench, output: Output) -> anyhow::Result<Exit> {
    let config = Config::read(&global.config)?;
    let device = device::open(arguments.runs)?;
    let portable = arguments.runs.device == DeviceKind::Portable;
    let isa = portable.then(|| arguments.runs.isa.unwrap_or_else(Isa::best).name());
    let threads = arguments.runs.threads.unwrap_or_else(bench::cores);
    let begun = Instant::now();
    let bundle = bundle::open(arguments.bundle.as_ref(), &config, global)?;
    let opening = begun.elapsed();
    let options = Options {
        rounds: arguments.rounds,
        threads,
        memory: arguments.memory.get() << 20,
        contexts: arguments.contexts.clone(),
        prefill: arguments.prefill,
        tokens: arguments.tokens,
        keep: arguments.keep,
        prompts: of_each_class(
            gate::prompts(arguments.prompts.as_deref(), None, &config)?,
            arguments.per_class,
        ),
    };
    let counter = Counter::new("measured", 0);
    let report =
        bench::measure(&bundle, opening, &*device, Machine::here(isa, threads), &options, |done, total| {
            counter.of(done as u64, total as u64);
        })?;
    drop(counter);
    tell_loads(&*device);
    if output.verbose {
        output::message(&format!("{} prompts, {} rounds", options.prompts.len(), options.rounds));
    }
    output.result(&report, || report.to_string())?;
    Ok(Exit::Ok)
}

/// The first `most` prompts of each class.
fn of_each_class(mut prompts: Vec<Prompt>, most: Option<usize>) -> Vec<Prompt> {
    let mut taken: HashMap<String, usize> = HashMap::new();
    prompts.retain(|prompt| {
        let taken = taken.entry(prompt.class.clone()).or_default();
        *taken += 1;
        most.is_none_or(|most| *taken <= most)
    });
    prompts
}
