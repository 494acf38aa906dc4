//! `anepipe gate range`.

use anepipe_pipeline::config::Config;
use anepipe_pipeline::stages::range;
use anepipe_runtime::bundle::manifest::Role;
use anepipe_runtime::portable::PortableDevice;

use crate::cli::{GateRange, Global};
use crate::commands::bundle;
use crate::exit::{Exit, Failed};
use crate::output::Output;
use crate::output::progress::Counter;

pub(super) fn run(global: &Global, arguments: &GateRange, output: Output) -> anyhow::Result<Exit> {
    let config = Config::read(&global.config)?;
    let bundle = bundle::open(arguments.bundle.as_ref(), &config, global)?;
    let parts = bundle.parts()?;
    let shards = bundle.manifest().shards.iter().filter(|shard| shard.role == Role::Layers);
    let layers: Vec<_> = shards.map(|shard| shard.range[0]..shard.range[1]).collect();
    let prompts = super::prompts(arguments.prompts.as_deref(), arguments.limit, &config)?;
    let counter = Counter::new("prompts", prompts.len() as u64);
    let report = range::run(&PortableDevice::new(), &parts, &layers, &prompts, |done| {
        counter.at(done as u64);
    })?;
    drop(counter);
    output.result(&report, || report.to_string())?;
    if let Some(reason) = &report.reason {
        output.error(&Failed::new(format!("the range gate did not pass: {reason}")).into());
    }
    Ok(if report.pass { Exit::Ok } else { Exit::Range })
}
