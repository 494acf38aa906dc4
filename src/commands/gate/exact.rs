//! `anepipe gate exact`.

use anepipe_pipeline::config::Config;
use anepipe_pipeline::stages::exact;

use crate::cli::{GateExact, Global};
use crate::commands::bundle;
use crate::commands::device::{self, tell_loads};
use crate::exit::{Exit, Failed};
use crate::output::Output;
use crate::output::progress::Counter;

pub(super) fn run(global: &Global, arguments: &GateExact, output: Output) -> anyhow::Result<Exit> {
    let config = Config::read(&global.config)?;
    let device = device::open(arguments.runs)?;
    let parts = bundle::open(arguments.bundle.as_ref(), &config, global)?.parts()?;
    let prompts = super::prompts(arguments.prompts.as_deref(), arguments.limit, &config)?;
    let counter = Counter::new("prompts", prompts.len() as u64);
    let report = exact::run(&*device, &parts, &prompts, arguments.max_new, |done| {
        counter.at(done as u64);
    })?;
    drop(counter);
    tell_loads(&*device);
    output.result(&report, || report.to_string())?;
    if let Some(reason) = &report.reason {
        output.error(&Failed::new(format!("the exactness gate did not pass: {reason}")).into());
    }
    Ok(if report.pass { Exit::Ok } else { Exit::Exact })
}
