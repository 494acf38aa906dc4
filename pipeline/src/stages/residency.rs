//! The residency gate over a compiled shard, as a stage and as a command: predicted anywhere, measured on a Mac.

use std::path::{Path, PathBuf};

use anepipe_mil::modelc::{ModelC, ModelCError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::gates::residency::{
    self, CalibrationRecord, ComputePlan, PlanError, ResidencyReport, Source, Subject, Target,
};
use crate::python::{PythonError, Worker, path_text};

/// The stage's name in the worker.
const METHOD: &str = "residency";

/// The exception with which the Python stage says that this machine has no compute plans.
const NO_COMPUTE_PLAN: &str = "NoComputePlanError";

/// The file whose digest names a compiled program.
const PROGRAM_FILE: &str = "model.mil";

/// What the gate is asked to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidencyTask {
    /// What reports call the shard.
    pub name: String,
    /// The machine that predictions are about.
    pub target: Target,
}

/// Why the gate could not be run. A shard that fails the gate is not an error but a report.
#[derive(Debug, thiserror::Error)]
pub enum ResidencyError {
    /// The compiled shard cannot be read.
    #[error("residency gate on {shard}: {source}")]
    Model {
        /// The shard.
        shard: String,
        /// What is wrong.
        source: Box<ModelCError>,
    },
    /// The digest of the program could not be taken.
    #[error("residency gate: {0}")]
    Io(#[from] std::io::Error),
    /// This machine has no compute plans.
    #[error(
        "measuring where {} runs: {reason}; run this on a Mac with macOS 15 or later, or take the prediction \
         (without `--require measured`)",
        model.display()
    )]
    NoComputePlan {
        /// The compiled shard.
        model: PathBuf,
        /// What Python said.
        reason: String,
    },
    /// The worker or its environment failed.
    #[error("measuring residency: {0}")]
    Python(#[source] PythonError),
    /// What the worker gave is no compute plan.
    #[error("measuring residency: {0}")]
    Plan(#[from] PlanError),
    /// Only a measurement will do.
    #[error(
        "the report of {shard} is predicted and a measured one is required: run the gate on a Mac, where it reads the \
         device's compute plan"
    )]
    NotMeasured {
        /// The shard.
        shard: String,
    },
    /// The rules inside this program cannot be read.
    #[error("reading the residency rules: {0}; this is a bug in anepipe, please report it")]
    Rules(&'static str),
}

/// Predicts where the compiled shard at `model` runs. Weights are mapped, not read.
pub fn run(model: &Path, task: &ResidencyTask) -> Result<ResidencyReport, ResidencyError> {
    let compiled = ModelC::open(model)
        .map_err(|error| ResidencyError::Model { shard: task.name.clone(), source: Box::new(error) })?;
    let bytes = compiled.weights().values().fold(0_u64, |sum, file| sum.saturating_add(file.len()));
    let subject = Subject { name: &task.name, program: compiled.program(), weight_bytes: Some(bytes) };
    residency::predict(&subject, task.target).map_err(ResidencyError::Rules)
}

/// Asks Core ML on this machine where the shard at `model`, compiled by Apple's compiler, runs: CPU and Neural Engine allowed.
/// Loading may compile for the device, which takes minutes the first time.
pub fn measure(worker: &mut Worker, model: &Path) -> Result<CalibrationRecord, ResidencyError> {
    let absolute = std::path::absolute(model)?;
    let text = path_text(METHOD, &absolute).map_err(ResidencyError::Python)?;
    let answer = worker.call(METHOD, &json!({ "model": text })).map_err(|error| match error {
        PythonError::Exception { kind, message, .. } if kind == NO_COMPUTE_PLAN => {
            ResidencyError::NoComputePlan { model: model.to_owned(), reason: message }
        }
        other => ResidencyError::Python(other),
    })?;
    let plan = ComputePlan::from_json(answer.to_string().as_bytes())?;
    Ok(CalibrationRecord::new(program_digest(model)?, plan))
}

/// The digest by which a [`CalibrationRecord`] names the program of a compiled shard: blake3 of its `model.mil`.
pub fn program_digest(model: &Path) -> Result<String, std::io::Error> {
    Ok(blake3::hash(&fs_err::read(model.join(PROGRAM_FILE))?).to_hex().to_string())
}

/// What a gate demands of its report's source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Require {
    /// Nothing: a prediction is reported and stops nothing. A measured no stops a ship all the same.
    #[default]
    Report,
    /// Pass, by prediction or by measurement.
    Any,
    /// Only a device's compute plan.
    Measured,
}

impl Require {
    /// Refuses a prediction where a measurement is required.
    pub fn check(self, report: &ResidencyReport) -> Result<(), ResidencyError> {
        if self == Self::Measured && report.source == Source::Predicted {
            return Err(ResidencyError::NotMeasured { shard: report.shard.clone() });
        }
        Ok(())
    }
}

impl std::fmt::Display for Require {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Report => "report",
            Self::Any => "any",
            Self::Measured => "measured",
        })
    }
}

impl std::str::FromStr for Require {
    type Err = UnknownRequirement;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "report" => Ok(Self::Report),
            "any" => Ok(Self::Any),
            "measured" => Ok(Self::Measured),
            other => Err(UnknownRequirement(other.to_owned())),
        }
    }
}

/// A requirement that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is nothing that a residency report can be required to be; give any or measured")]
pub struct UnknownRequirement(String);
