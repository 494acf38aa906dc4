//! A graph and its weights → a `.mlpackage`.
//!
//! The graph's table of blobs says which tensor belongs at which byte of the weight file. Slot `i` of the table is the
//! `i`-th weight file; what belongs to no slot (a last norm, a head) is in exactly one of the files. Every blob must have
//! its tensor, of the same type and shape, and every tensor its blob: a file of another quantization, another layer too
//! many or a slice of another size is an error before anything is written.
//!
//! Weights go from file to file through a buffer, from the first byte of the weight file to its last, so that a store can hash them
//! on their way; memory does not grow with them. The package appears whole or not at all, and its bytes depend on nothing but the
//! inputs.

mod bind;
mod error;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anepipe_mil::blob::WeightLayout;
use anepipe_mil::package::{Package, place};

use crate::stages::graph::BlobTable;
use crate::tensors::TensorFile;
pub use error::ConvertError;

/// Writes the package `output` from the program `model`, its table `blobs` and the quantized `weights`. `output` must
/// not exist.
pub fn convert(model: &Path, blobs: &Path, weights: &[PathBuf], output: &Path) -> Result<(), ConvertError> {
    let folder = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let io = |source| ConvertError::Write { path: output.to_owned(), source };
    if output.symlink_metadata().is_ok() {
        return Err(io(io::ErrorKind::AlreadyExists.into()));
    }
    let temporary = tempfile::Builder::new().prefix(".writing-").tempdir_in(folder).map_err(io)?;
    // A temporary folder is its owner's alone; a folder inside it is like any other.
    let package = Package::create(temporary.path().join("package"))?;
    copy(model, package.model_path())?;
    write_weights(blobs, weights, File::create(package.weight_path()).map_err(io)?)?;
    fs::rename(package.path(), output).map_err(io)
}

/// Writes the package's weight file to `out`, from its first byte to its last. Nothing is written before all is known to fit.
pub fn write_weights(blobs: &Path, weights: &[PathBuf], out: impl Write) -> Result<(), ConvertError> {
    let table = BlobTable::read(blobs)?;
    let files = weights.iter().map(|path| TensorFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    let bound = bind::bind(&table, blobs, &files)?;
    let layout = WeightLayout::new(bind::layout(&table))?;
    // The layout's blobs are the table's, each of which was bound.
    Ok(layout.write_to(Path::new(place::WEIGHTS), out, |index: usize| bound[index].reader())?)
}

/// Copies content and not permissions: what comes out of a store is read-only, and that is the store's affair.
fn copy(from: &Path, to: &Path) -> Result<(), ConvertError> {
    let copied = File::open(from).and_then(|mut from| io::copy(&mut from, &mut File::create(to)?));
    match copied {
        Ok(_) => Ok(()),
        Err(source) => Err(ConvertError::Copy { from: from.to_owned(), to: to.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
