//! Why something could not be extracted.

use std::path::PathBuf;

use anepipe_gguf::GgufError;

use crate::contract::ExitClass;
use crate::tensors::TensorsError;

/// Why something could not be extracted.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The model file cannot be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The output cannot be written.
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    /// The output cannot be written.
    #[error("could not write {}", path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A tensor of the model file is absent, or smaller than the contract says.
    #[error(
        "{} has no tensor `{tensor}` of {rows} rows by {columns} columns, which its contract has; \
         was the file changed meanwhile?",
        file.display()
    )]
    Changed {
        /// The model file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Rows it should have, at least.
        rows: u64,
        /// Columns it should have.
        columns: u64,
    },
    /// A layer or token that the model does not have was asked for.
    #[error("there is no {what} {asked}: the model has {count}, from 0")]
    OutOfRange {
        /// `layer` or `token`.
        what: &'static str,
        /// What was asked for.
        asked: u64,
        /// How many there are.
        count: u64,
    },
    /// A weight is NaN, infinite, or too large for fp16.
    #[error(
        "{}: tensor `{tensor}` has the value {value} in row {row}, column {column}; \
         weights must be finite and within fp16's ±65504. The file is damaged, or the model cannot be built",
        file.display()
    )]
    Value {
        /// The model file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its row, from 0.
        row: u64,
        /// Its column, from 0.
        column: u64,
        /// The weight.
        value: f32,
    },
}

impl ExtractError {
    pub(super) fn out_of_range(what: &'static str, asked: u64, count: u64) -> Self {
        Self::OutOfRange { what, asked, count }
    }

    /// Which exit code this belongs to; none for an output that cannot be written, or a mistake of the caller.
    pub fn exit_class(&self) -> Option<ExitClass> {
        match self {
            Self::Gguf(GgufError::NoKernel { .. }) => Some(ExitClass::Unsupported),
            Self::Gguf(_) | Self::Changed { .. } | Self::Value { .. } => Some(ExitClass::BadInput),
            Self::Tensors(_) | Self::Write { .. } | Self::OutOfRange { .. } => None,
        }
    }
}
