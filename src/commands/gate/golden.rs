//! `anepipe gate golden`.

use anepipe_gguf::Gguf;
use anepipe_pipeline::config::Config;
use anepipe_pipeline::error::StageError;
use anepipe_pipeline::stages::golden::{self, GoldenTask};
use anepipe_pipeline::stages::quantize::Quantization;

use crate::cli::{GateGolden, Global};
use crate::commands::bundle;
use crate::commands::device::{self, tell_loads};
use crate::exit::{Exit, Failed};
use crate::output::Output;
use crate::output::progress::Counter;

pub(super) fn run(global: &Global, arguments: &GateGolden, output: Output) -> anyhow::Result<Exit> {
    let config = Config::read(&global.config)?;
    let device = device::open(arguments.runs)?;
    let Some(model) = arguments.model.clone().or_else(|| config.model.path.clone()) else {
        return Err(Failed::usage(
            "there is no model to compare with; give --model F.gguf, the file that the bundle was built from",
        )
        .into());
    };
    let bundle = bundle::open(arguments.bundle.as_ref(), &config, global)?;
    let parts = bundle.parts()?;
    let quantization: Quantization = bundle.manifest().quantization.parse().map_err(Failed::bad_input)?;
    let gguf = Gguf::open(&model).map_err(StageError::from)?;
    let settings = &config.gates.golden;
    let task = GoldenTask {
        text: golden::read_text(arguments.text.as_deref().or(settings.text.as_deref()))?,
        tokens: arguments.tokens.or(settings.tokens).unwrap_or(golden::DEFAULT_TOKENS),
        thresholds: settings.thresholds(),
        quantization,
    };
    let counter = Counter::new("reference layers", 0);
    let report = golden::run(&*device, &parts, &gguf, &task, |done, layers| {
        counter.of(done.into(), layers.into());
    })?;
    drop(counter);
    tell_loads(&*device);
    output.result(&report, || report.to_string())?;
    if let Some(reason) = &report.reason {
        output.error(&Failed::new(format!("the golden gate did not pass: {reason}")).into());
    }
    Ok(if report.pass { Exit::Ok } else { Exit::Golden })
}
