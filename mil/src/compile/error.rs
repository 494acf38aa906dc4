//! Why a package does not compile.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::blob::BlobError;
use crate::package::PackageError;
use crate::text::PrintError;

/// A package that was not compiled; nothing was written.
#[derive(Debug, Error)]
#[error("compiling {}: {kind}", package.display())]
pub struct CompileError {
    /// The package.
    pub package: PathBuf,
    /// Why not.
    #[source]
    pub kind: CompileErrorKind,
}

/// Why a package does not compile.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompileErrorKind {
    /// The package cannot be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A weight file is missing, damaged, or another model's.
    #[error(transparent)]
    Weights(#[from] BlobError),
    /// The program has no text form.
    #[error(transparent)]
    Print(#[from] PrintError),
    /// A feature that cannot be written as Apple's compiler writes it.
    #[error(transparent)]
    Feature(#[from] UnsupportedFeature),
    /// A version whose compiled form is unknown.
    #[error(
        "specification version {0} is unknown; ML Programs of versions 6 (iOS 15) to 9 (iOS 18) compile. \
         Convert the model with a lower deployment target"
    )]
    UnknownVersion(i32),
    /// The description names a function the program does not have.
    #[error("the model describes a function `{0}` that its program does not have; the model is damaged")]
    NoFunction(String),
    /// The program already says which compiler made it.
    #[error("the program's attribute `buildInfo` is no dictionary of strings; the model is damaged")]
    BuildInfo,
    /// Metadata cannot be written as JSON.
    #[error("writing metadata.json: {0}")]
    Json(#[from] serde_json::Error),
    /// Something other than a compiled model stands where the output goes.
    #[error("{} exists and is no compiled model; it was left alone. Remove it or choose another output", .0.display())]
    OutputExists(PathBuf),
    /// The output has no name.
    #[error("{} is no path a directory can be made at", .0.display())]
    NoName(PathBuf),
    /// The operating system refused.
    #[error("writing the compiled model: {0}")]
    Write(#[source] io::Error),
}

/// A feature whose compiled form is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the feature `{name}` has {what}, whose compiled form is unknown; fixed shapes and bounded ranges of sizes \
     compile. Convert the model with those, or compile it on a Mac"
)]
pub struct UnsupportedFeature {
    /// The input, output or state.
    pub name: String,
    /// What about it.
    pub what: &'static str,
}
