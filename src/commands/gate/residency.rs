//! `anepipe gate residency`: measured where Core ML can be asked, predicted elsewhere.

use std::path::Path;

use anepipe_pipeline::config::Config;
use anepipe_pipeline::error::StageError;
use anepipe_pipeline::gates::residency::{CalibrationRecord, ResidencyDiff, ResidencyReport, diff};
use anepipe_pipeline::stages::residency::{self, Require, ResidencyTask};
use anepipe_runtime::bundle::Bundle;
use serde::Serialize;

use crate::cli::{GateResidency, Global};
use crate::commands::{build, bundle};
use crate::exit::{Exit, Failed};
use crate::output::Output;

#[derive(Serialize)]
struct Gated {
    schema: u32,
    pass: bool,
    shards: Vec<ResidencyReport>,
    /// What predictions got right and wrong, by shard.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    against_predictions: Vec<Held>,
}

/// A prediction held to a measurement.
#[derive(Serialize)]
struct Held {
    shard: String,
    #[serde(flatten)]
    diff: ResidencyDiff,
}

/// What `--vs-predicted` writes, for the project's calibration.
#[derive(Serialize)]
struct Records {
    schema: u32,
    records: Vec<CalibrationRecord>,
}

pub(super) fn run(global: &Global, arguments: &GateResidency, output: Output) -> anyhow::Result<Exit> {
    let config = Config::read(&global.config)?;
    let bundle = bundle::open(arguments.bundle.as_ref(), &config, global)?;
    let target = build::machine(arguments.machine, &config);
    let predicted = bundle.manifest().shards.iter().map(|shard| {
        let task = ResidencyTask { name: shard.path.clone(), target };
        Ok(residency::run(&bundle.resolve(&shard.path)?, &task).map_err(StageError::from)?)
    });
    let predicted: Vec<ResidencyReport> = predicted.collect::<anyhow::Result<_>>()?;
    // Core ML answers on a Mac only; asking for a record elsewhere says so.
    let measures = cfg!(target_os = "macos") || arguments.vs_predicted.is_some();
    let (shards, against_predictions) = if measures {
        let records = measure(global, &config, &bundle)?;
        let measured: Vec<ResidencyReport> =
            records.iter().zip(&predicted).map(|(record, of)| record.report(&of.shard)).collect();
        let held = measured.iter().zip(&predicted).map(|(measured, predicted)| Held {
            shard: measured.shard.clone(),
            diff: diff(predicted, measured),
        });
        let held = held.collect();
        if let Some(path) = &arguments.vs_predicted {
            write(path, &Records { schema: 1, records })?;
        }
        (measured, held)
    } else {
        (predicted, Vec::new())
    };
    for report in &shards {
        arguments.require.check(report).map_err(StageError::from)?;
    }
    let passes = |report: &ResidencyReport| report.pass || arguments.require == Require::Report;
    let gated = Gated { schema: 1, pass: shards.iter().all(passes), shards, against_predictions };
    output.result(&gated, || words(&gated))?;
    for reason in
        gated.shards.iter().filter(|report| !passes(report)).filter_map(|report| report.reason.clone())
    {
        output.error(&Failed::new(format!("the residency gate did not pass: {reason}")).into());
    }
    Ok(if gated.pass { Exit::Ok } else { Exit::Residency })
}

/// Asks Core ML about every shard.
fn measure(global: &Global, config: &Config, bundle: &Bundle) -> anyhow::Result<Vec<CalibrationRecord>> {
    let workers = build::workers(global, config)?;
    let shards = bundle.manifest().shards.iter().map(|shard| {
        let model = bundle.resolve(&shard.path)?;
        let record = workers.with(|worker| residency::measure(worker, &model)).map_err(StageError::from)?;
        Ok(record.map_err(StageError::from)?)
    });
    shards.collect()
}

fn write(path: &Path, records: &Records) -> anyhow::Result<()> {
    let mut json = serde_json::to_vec_pretty(records)?;
    json.push(b'\n');
    Ok(fs_err::write(path, json)?)
}

fn words(gated: &Gated) -> String {
    let mut texts: Vec<String> = gated.shards.iter().map(ToString::to_string).collect();
    for Held { shard, diff } in &gated.against_predictions {
        texts.push(format!(
            "predictions for {shard}: {} operations on the Neural Engine as expected, {} off it as expected, {} off it that were \
             expected on it, {} on it that were expected off it",
            diff.both_on,
            diff.found,
            diff.missed.len(),
            diff.false_alarms.len()
        ));
    }
    texts.join("\n")
}
