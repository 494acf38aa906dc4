//! The messages of the pipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The request that starts Python; it must be the first, and only the first. The others go to the stage of their name.
pub(super) const START: &str = "start";

/// A call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// Chosen by the host; the response repeats it.
    pub(super) id: u64,
    /// The stage.
    pub(super) method: String,
    /// Its parameters, an object.
    pub(super) params: Value,
}

/// The parameters of [`START`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    /// Where the standard library is.
    pub(super) home: PathBuf,
    /// Where coremltools is.
    pub(super) site_packages: PathBuf,
}

/// The answer to a call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Response {
    /// The request's.
    pub(super) id: u64,
    /// `"ok"` or `"error"`.
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// A stage's result.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// What the stage returned.
    Ok(Value),
    /// What it raised.
    Error(Failure),
}

/// An exception.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Failure {
    /// The exception's type.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Its message.
    pub(super) message: String,
    /// Where it was raised.
    #[serde(default)]
    pub(super) traceback: String,
    /// The system's error number, where the system was the cause.
    #[serde(default)]
    pub(super) errno: Option<i32>,
}
