//! `anepipe gate residency`.

use anepipe_pipeline::config::Config;
use anepipe_pipeline::error::StageError;
use anepipe_pipeline::gates::residency::ResidencyReport;
use anepipe_pipeline::stages::residency::{self, Require, ResidencyTask};
use serde::Serialize;

use super::open_bundle;
use crate::cli::{GateResidency, Global};
use crate::commands::build;
use crate::exit::{Exit, Failed};
use crate::output::Output;

#[derive(Serialize)]
struct Gated {
    schema: u32,
    pass: bool,
    shards: Vec<ResidencyReport>,
}

pub(super) fn run(global: &Global, arguments: &GateResidency, output: Output) -> anyhow::Result<Exit> {
    let config = Config::read(&global.config)?;
    let bundle = open_bundle(arguments.bundle.as_ref(), &config)?;
    let target = build::machine(arguments.machine, &config);
    let mut shards = Vec::new();
    for shard in &bundle.manifest().shards {
        let task = ResidencyTask { name: shard.path.clone(), target };
        let report = residency::run(&bundle.resolve(&shard.path)?, &task).map_err(StageError::from)?;
        arguments.require.check(&report).map_err(StageError::from)?;
        shards.push(report);
    }
    let passes = |report: &ResidencyReport| report.pass || arguments.require == Require::Report;
    let gated = Gated { schema: 1, pass: shards.iter().all(passes), shards };
    output.result(&gated, || gated.shards.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    for reason in
        gated.shards.iter().filter(|report| !passes(report)).filter_map(|report| report.reason.clone())
    {
        output.error(&Failed::new(format!("the residency gate did not pass: {reason}")).into());
    }
    Ok(if gated.pass { Exit::Ok } else { Exit::Residency })
}
