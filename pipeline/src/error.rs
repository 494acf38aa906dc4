//! Why a stage failed, and the exit code that says so.

use anepipe_artifacts::StoreError;
use anepipe_gguf::GgufError;
use anepipe_runtime::error::RuntimeError;

use crate::contract::ContractError;
use crate::python::PythonError;
use crate::stage::Stage;
use crate::stages::{extract::ExtractError, graph::GraphError, quantize::QuantizeError};
use crate::tensors::TensorsError;
use crate::topology::TopologyError;

/// Why an action did not give its outputs.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The model file is not a GGUF file, or a damaged one.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The model's numbers are missing, contradictory or not supported.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The layers cannot be cut as asked.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// Weights could not be taken out of the model file.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// Weights could not be quantized.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// The graph could not be built.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Graph and weights do not fit each other.
    #[error(transparent)]
    Convert(#[from] crate::stages::convert::ConvertError),
    /// The package could not be compiled.
    #[error(transparent)]
    Compile(#[from] anepipe_mil::compile::CompileError),
    /// Apple's compiler could not be used.
    #[error(transparent)]
    Compiler(#[from] crate::stages::compile::CompilerError),
    /// A compiled program could not be read.
    #[error(transparent)]
    ModelC(#[from] anepipe_mil::modelc::ModelCError),
    /// The rotary embedding cannot be computed.
    #[error(transparent)]
    Rope(#[from] anepipe_runtime::rope::RopeError),
    /// An intermediate file could not be read.
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    /// A shard could not be loaded or run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A gate could not be run.
    #[error(transparent)]
    Parity(#[from] crate::gates::parity::ParityError),
    /// The exactness gate could not be run.
    #[error(transparent)]
    Exact(#[from] crate::gates::exact::ExactError),
    /// Prompts could not be read.
    #[error(transparent)]
    Prompts(#[from] crate::gates::exact::PromptsError),
    /// The golden gate could not be run.
    #[error(transparent)]
    Golden(#[from] crate::gates::golden::GoldenError),
    /// The range gate could not be run.
    #[error(transparent)]
    Range(#[from] crate::gates::range::RangeError),
    /// A whole model could not be loaded.
    #[error(transparent)]
    Whole(#[from] crate::stages::WholeError),
    /// The residency gate could not be run.
    #[error(transparent)]
    Residency(#[from] crate::stages::residency::ResidencyError),
    /// A gate looked and said no.
    #[error("the {} gate did not pass: {reason}", stage.name())]
    Gate {
        /// Which gate.
        stage: Stage,
        /// What it found.
        reason: String,
    },
    /// Python could not be used, or a Python stage failed.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Reading or writing a stage's own files failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Something before it failed.
    #[error("{0}")]
    Skipped(String),
    /// An option that cannot be met.
    #[error("{0}")]
    Usage(String),
    /// Something that cannot happen happened.
    #[error("{0}; this is a bug in anepipe, please report it")]
    Internal(String),
}
