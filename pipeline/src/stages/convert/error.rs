//! Why graph and weights did not become a package.

use std::path::PathBuf;

use anepipe_mil::blob::{LayoutError, WeightWriteError};
use anepipe_mil::package::PackageError;

use crate::stages::graph::GraphError;
use crate::tensors::TensorsError;

/// Why graph and weights did not become a package.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The table of blobs cannot be read.
    #[error(transparent)]
    Table(#[from] GraphError),
    /// A weight file cannot be read.
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    /// The table is no weight file's.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The package cannot be written.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The weight file cannot be written.
    #[error(transparent)]
    Weights(#[from] WeightWriteError),
    /// The package cannot be put in its place.
    #[error("could not create {}", path.display())]
    Write {
        /// The package.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The program cannot be copied.
    #[error("could not copy the program {} to {}", from.display(), to.display())]
    Copy {
        /// The program.
        from: PathBuf,
        /// Its place in the package.
        to: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A graph for another number of layers.
    #[error(
        "{} wants weights for slot {slot}, and there are {files} weight files; \
         graph and weights are of different shards",
        table.display()
    )]
    NoFile {
        /// The table of blobs.
        table: PathBuf,
        /// The slot, from 0.
        slot: u32,
        /// Weight files there are.
        files: usize,
    },
    /// A blob of no slot has no tensor, or more than one.
    #[error(
        "{} wants `{tensor}` from one weight file, and {found} of {files} have it; \
         graph and weights are of different shards",
        table.display()
    )]
    NotOne {
        /// The table of blobs.
        table: PathBuf,
        /// The tensor.
        tensor: String,
        /// Weight files that have it.
        found: usize,
        /// Weight files there are.
        files: usize,
    },
    /// A tensor is not what its blob wants.
    #[error(
        "blob `{blob}` wants {expected}, and `{tensor}` in {} is {found}; \
         graph and weights are of different shards or quantizations",
        file.display()
    )]
    Form {
        /// The blob.
        blob: String,
        /// The weight file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Type and shape of the blob.
        expected: Box<str>,
        /// Type and shape of the tensor.
        found: Box<str>,
    },
    /// A tensor has no blob.
    #[error(
        "no blob of {} wants `{tensor}`, which is in {}; graph and weights are of different shards or quantizations",
        table.display(),
        file.display()
    )]
    Unused {
        /// The table of blobs.
        table: PathBuf,
        /// The weight file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
}
