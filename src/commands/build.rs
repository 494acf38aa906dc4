//! `anepipe build`, and what `explain` and `graph` share with it: options from the command line and the project file.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anepipe_artifacts::Store;
use anepipe_pipeline::build::{
    self, BUILD_MAX_NEW, BUILD_PROMPTS, BuildOptions, Built, DEFAULT_BLOCK, DEFAULT_CONTEXT, ExactOptions,
    GoldenOptions, Model, ResidencyOptions, Workers,
};
use anepipe_pipeline::config::{Config, ExactConfig};
use anepipe_pipeline::error::StageError;
use anepipe_pipeline::event::{Events, Outcome, Sink, Timed};
use anepipe_pipeline::gates::residency;
use anepipe_pipeline::python::{Lookup, PythonEnvironment};
use anepipe_pipeline::scheduler::{KeepGoing, Options};
use anepipe_pipeline::stage::Stage;
use anepipe_pipeline::stages::compile::{Compiler, CompilerKind};
use anepipe_pipeline::stages::golden::{DEFAULT_TOKENS, read_text};
use anepipe_pipeline::verdict::Verdict;
use serde::Serialize;

use crate::cli::{self, Global, Target};
use crate::exit::{Exit, Failed, exit_of};
use crate::output::junit::JUnit;
use crate::output::progress::Progress;
use crate::output::trace::Trace;
use crate::output::{Output, message};

/// What `build --format json` ends with.
#[derive(Serialize)]
struct Summary {
    schema: u32,
    result: &'static str,
    stages: Counts,
    bundle: Option<PathBuf>,
    seconds: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<Failure>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
}

/// A prediction that says no and stops nothing.
#[derive(Serialize)]
struct Warning {
    stage: &'static str,
    subject: String,
    reason: String,
}

#[derive(Serialize)]
struct Counts {
    total: usize,
    ran: usize,
    cached: usize,
    failed: usize,
    skipped: usize,
}

#[derive(Serialize)]
struct Failure {
    stage: &'static str,
    subject: String,
    error: String,
    /// The gate's whole report, in the store.
    report: Option<PathBuf>,
}

pub(crate) fn run(global: &Global, arguments: &cli::Build, output: Output) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let config = Config::read(&global.config)?;
    let options = options(&arguments.target, &config)?;
    let out =
        arguments.out.clone().or_else(|| config.build.out.clone()).unwrap_or_else(|| PathBuf::from("out"));
    let model = Model::open(&options.model, options.context)?;
    let store = super::store(global)?;
    let workers = workers(global, &config)?;
    let plan = build::plan(&model, &options, &store, &workers)?;
    if arguments.dry_run {
        return super::explain::report(&plan, &store, None, output);
    }
    build::check_out(&out)?;
    let readers = Readers::new(arguments, output)?;
    let events = Events::new(readers.sinks());
    let jobs = arguments.jobs.unwrap_or_else(cores).max(1);
    let built = build::run(
        &plan,
        &store,
        &events,
        Options { jobs, keep_going: arguments.keep_going.into(), force: arguments.force },
    )?;
    drop(events);
    readers.finish(arguments)?;
    if let Some(bundle) = &built.bundle {
        build::publish(&store, bundle, &out)?;
    }
    report(&built, &store, &out, began, output)
}

fn report(built: &Built, store: &Store, out: &Path, began: Instant, output: Output) -> anyhow::Result<Exit> {
    let failures: Vec<Failure> = built
        .failures()
        .map(|(label, ended)| Failure {
            stage: label.stage.name(),
            subject: label.subject.clone(),
            error: ended.error.as_ref().map(explained).unwrap_or_default(),
            report: ended.outputs.get("report").map(|report| store.path_of(report.digest())),
        })
        .collect();
    let exit = built.failures().find_map(|(_, ended)| ended.error.as_ref()).map_or(Exit::Ok, exit_of);
    let summary = Summary {
        schema: 1,
        result: if exit == Exit::Ok { "ok" } else { "failed" },
        stages: Counts {
            total: built.actions.len(),
            ran: built.count(Outcome::Ran),
            cached: built.count(Outcome::Cached),
            failed: built.count(Outcome::Failed),
            skipped: built.count(Outcome::Skipped),
        },
        bundle: built.bundle.as_ref().map(|_| out.to_owned()),
        seconds: began.elapsed().as_secs_f64(),
        failures,
        warnings: warnings(built, store)?,
    };
    for Warning { stage, subject, reason } in &summary.warnings {
        message(&format!("warning: {stage} {subject}: {reason}"));
    }
    for Failure { stage, subject, error, report } in &summary.failures {
        let report =
            report.as_ref().map(|path| format!("; every figure: {}", path.display())).unwrap_or_default();
        output.error(&Failed::new(format!("{stage} {subject}: {error}{report}")).into());
    }
    output.result(&summary, || words(&summary))?;
    Ok(exit)
}

/// What is expected to go wrong elsewhere, and was let pass here.
fn warnings(built: &Built, store: &Store) -> anyhow::Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    for (label, ended) in &built.actions {
        let Some(report) = ended.outputs.get("report").filter(|_| label.stage == Stage::Residency) else {
            continue;
        };
        let Verdict { pass, reason, .. } = Verdict::of(&store.read(report)?)?;
        if !pass && ended.error.is_none() {
            let (stage, subject) = (label.stage.name(), label.subject.clone());
            warnings.push(Warning { stage, subject, reason: reason.unwrap_or_default() });
        }
    }
    Ok(warnings)
}

/// A stage's failure, and what to do where the stage itself cannot know.
fn explained(error: &StageError) -> String {
    let mut text = with_causes(error);
    if exit_of(error) == Exit::NotWritable && !text.contains("--cache-dir") {
        text.push_str("; free some space, or choose another --cache-dir");
    }
    text
}

/// An error and what stands behind it, each said once.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn words(summary: &Summary) -> String {
    let Counts { total, ran, cached, failed, skipped } = summary.stages;
    let also = |count: usize, word: &str| if count > 0 { format!(", {count} {word}") } else { String::new() };
    let (failed, skipped) = (also(failed, "failed"), also(skipped, "skipped"));
    let bundle = match &summary.bundle {
        Some(bundle) => format!("bundle: {}", bundle.display()),
        None => "no bundle: something that it needs failed".to_owned(),
    };
    format!(
        "{total} actions: {ran} ran, {cached} in the store{failed}{skipped}; {:.2} s\n{bundle}",
        summary.seconds
    )
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Merges the command line over the project file over the defaults.
pub(crate) fn options(target: &Target, config: &Config) -> anyhow::Result<BuildOptions> {
    let Some(model) = target.model.clone().or_else(|| config.model.path.clone()) else {
        return Err(Failed::usage(
            "there is no model to build; give --model F.gguf, or model.path in anepipe.toml",
        )
        .into());
    };
    let defaults = BuildOptions::new(model);
    let parsed = |text: &Option<String>| text.as_deref().map(str::parse).transpose();
    Ok(BuildOptions {
        layers: match target.layers {
            Some(layers) => Some(layers),
            None => config.build.layers.as_deref().map(str::parse).transpose().map_err(StageError::from)?,
        },
        topology: match &target.topology {
            Some(topology) => topology.clone(),
            None => parsed(&config.build.topology).map_err(StageError::from)?.unwrap_or_default(),
        },
        block: target.block.or(config.build.block).unwrap_or(DEFAULT_BLOCK),
        widths: target.widths.clone().or_else(|| config.build.widths.clone()).unwrap_or(defaults.widths),
        context: target.context.or(config.build.context).unwrap_or(DEFAULT_CONTEXT),
        quantization: target.quantize.or(config.build.quantize).unwrap_or(defaults.quantization),
        compiler: Compiler::open(target.compiler.unwrap_or_else(CompilerKind::of_this_system))
            .map_err(StageError::from)?,
        // The project file's tokens belong to the project file's model.
        token_ids: if target.model.is_none() { config.gates.token_ids.clone() } else { None },
        parity: config.gates.parity,
        residency: ResidencyOptions {
            target: machine(target.machine, config),
            require: config.gates.residency.require.unwrap_or_default(),
        },
        golden: golden(config)?,
        exact: exact(config)?,
        fault: super::fault::from_environment()?,
        ..defaults
    })
}

/// The machine that residency is predicted for.
pub(crate) fn machine(asked: cli::Machine, config: &Config) -> residency::Target {
    let residency::Target { chip, os } = config.target;
    residency::Target { chip: asked.chip.unwrap_or(chip), os: asked.os.unwrap_or(os) }
}

fn golden(config: &Config) -> Result<GoldenOptions, StageError> {
    let settings = &config.gates.golden;
    Ok(GoldenOptions {
        text: read_text(settings.text.as_deref())?,
        tokens: settings.tokens.unwrap_or(DEFAULT_TOKENS),
        thresholds: settings.thresholds(),
    })
}

fn exact(config: &Config) -> Result<ExactOptions, StageError> {
    let ExactConfig { limit, max_new, .. } = config.gates.exact;
    let prompts = super::gate::prompts(None, Some(limit.unwrap_or(BUILD_PROMPTS)), config)?;
    Ok(ExactOptions { prompts, max_new: max_new.unwrap_or(BUILD_MAX_NEW) })
}

/// The Python that graphs are built with, not started.
pub(crate) fn workers(global: &Global, config: &Config) -> anyhow::Result<Workers> {
    let folder = global.config.parent().map(Path::to_owned);
    let lookup = Lookup::of_process(config.python.venv.as_deref(), folder.as_deref());
    Ok(Workers::new(PythonEnvironment::resolve(&lookup).map_err(StageError::from)?))
}

impl From<cli::KeepGoing> for KeepGoing {
    fn from(when: cli::KeepGoing) -> Self {
        match when {
            cli::KeepGoing::Never => Self::Never,
            cli::KeepGoing::Dependents => Self::Dependents,
            cli::KeepGoing::Always => Self::Always,
        }
    }
}

/// The readers of the event stream that this run asked for.
struct Readers {
    progress: Arc<Mutex<Progress>>,
    trace: Arc<Mutex<Trace>>,
    junit: Arc<Mutex<JUnit>>,
    log: Option<fs_err::File>,
}

impl Readers {
    fn new(arguments: &cli::Build, output: Output) -> anyhow::Result<Self> {
        let log = arguments.events.as_ref().map(fs_err::File::create).transpose()?;
        Ok(Self {
            progress: Arc::new(Mutex::new(Progress::new(output.verbose))),
            trace: Arc::default(),
            junit: Arc::default(),
            log,
        })
    }

    fn sinks(&self) -> Vec<Sink> {
        fn sink<R: Send + 'static>(reader: &Arc<Mutex<R>>, read: fn(&mut R, &Timed)) -> Sink {
            let reader = reader.clone();
            Box::new(move |timed| read(&mut reader.lock().unwrap_or_else(PoisonError::into_inner), timed))
        }
        let mut sinks = vec![
            sink(&self.progress, Progress::read),
            sink(&self.trace, Trace::read),
            sink(&self.junit, JUnit::read),
        ];
        if let Some(log) = self.log.as_ref().and_then(|log| log.try_clone().ok()) {
            sinks.push(ndjson(log));
        }
        sinks
    }

    /// Writes what was asked for.
    fn finish(self, arguments: &cli::Build) -> anyhow::Result<()> {
        if let Some(path) = &arguments.trace {
            let trace = std::mem::take(&mut *self.trace.lock().unwrap_or_else(PoisonError::into_inner));
            fs_err::write(path, serde_json::to_vec(&trace.finish())?)?;
        }
        if let Some(path) = &arguments.junit {
            let junit = std::mem::take(&mut *self.junit.lock().unwrap_or_else(PoisonError::into_inner));
            fs_err::write(path, junit.finish()?)?;
        }
        Ok(())
    }
}

/// The event log: one JSON object a line. A log that can no longer be written is said once and given up.
fn ndjson(mut log: fs_err::File) -> Sink {
    let mut broken = false;
    Box::new(move |timed| {
        if broken {
            return;
        }
        let written = serde_json::to_vec(timed).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            log.write_all(&line)
        });
        if let Err(error) = written {
            message(&format!("warning: the event log ends here: {error}"));
            broken = true;
        }
    })
}
