//! The parity gate over a compiled shard, as a stage and as a command.

use std::path::Path;

pub use anepipe_runtime::device::function_name;

use anepipe_runtime::device::Device;
use anepipe_runtime::rope::{Rope, RopeSpec};
use half::f16;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::error::StageError;
use crate::gates::parity::{self, ParityReport, ParityThresholds, Program, Subject};
use crate::tensors::TensorFile;

/// What the gate is asked to look at.
#[derive(Debug, Clone, Serialize)]
pub struct ParityTask {
    /// What reports call the shard.
    pub name: String,
    /// Tokens of the pass under test, T.
    pub block: u32,
    /// Every number of tokens that the shard's functions take.
    pub widths: Vec<u32>,
    /// The model's rotary embedding; absent for a head.
    pub rope: Option<RopeSpec>,
    /// What is demanded.
    pub thresholds: ParityThresholds,
}

/// A report, and the one sentence that says why it did not pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgedReport {
    /// The figures.
    #[serde(flatten)]
    pub report: ParityReport,
    /// Why not; absent when it passed.
    pub reason: Option<String>,
}

/// The name of the device that this machine computes on itself.
const PORTABLE: &str = "portable";

/// Loads the shard at `model` on `device` and runs the gate on the `[tokens, d]` fp16 rows in `token_embeddings`.
pub fn run(
    device: &dyn Device,
    model: &Path,
    token_embeddings: &Path,
    task: &ParityTask,
) -> Result<JudgedReport, StageError> {
    let rope = task.rope.as_ref().map(Rope::new).transpose()?;
    let shard = &*device.load(model)?;
    let program = |width| {
        let function = shard.find(&function_name(&task.widths, width))?;
        Ok::<_, StageError>(Program { shard, function })
    };
    let wide = program(task.block)?;
    let narrow = task.widths.iter().copied().find(|&width| width != task.block).map(program).transpose()?;
    let rows = read_rows(token_embeddings)?;
    let rows: Vec<&[f16]> = rows.iter().map(Vec::as_slice).collect();
    // Core ML asks for one prediction of a model at a time.
    let at_once = device.name() == PORTABLE;
    let (name, rope) = (&*task.name, rope.as_ref());
    let subject = Subject { name, device: device.name(), wide, narrow, rope, at_once };
    let report = parity::check(&subject, &rows, &task.thresholds)?;
    let reason = reason(&report);
    Ok(JudgedReport { report, reason })
}

/// The checks that failed and their tokens, in one sentence.
fn reason(report: &ParityReport) -> Option<String> {
    let failed: Vec<_> = report.checks.iter().filter(|check| !check.pass).collect();
    let first = failed.first()?;
    let tokens: Vec<String> = first.failing_tokens.iter().map(usize::to_string).collect();
    Some(format!(
        "{} of {} checks failed on {}; the first is {} ({}) on {}, tokens {}",
        failed.len(),
        report.checks.len(),
        report.shard,
        first.invariance,
        first.case,
        first.input,
        tokens.join(", ")
    ))
}

/// The rows of the tensor `hidden`.
fn read_rows(path: &Path) -> Result<Vec<Vec<f16>>, StageError> {
    let file = TensorFile::open(path)?;
    let tensor = file.tensor("hidden")?;
    let &[_, width] = tensor.shape() else {
        return Err(StageError::Internal(format!("{}: hidden is not a matrix", path.display())));
    };
    if tensor.dtype() != Dtype::F16 || width == 0 {
        return Err(StageError::Internal(format!("{}: hidden is not fp16", path.display())));
    }
    let values: Vec<f16> =
        tensor.read()?.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])).collect();
    Ok(values.chunks_exact(width).map(<[f16]>::to_vec).collect())
}
