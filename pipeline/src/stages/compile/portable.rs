//! The portable compiler, as a stage.

use std::path::Path;

use anepipe_mil::compile::{CompileError, CompileOptions, WeightPlacement, compile};

/// Its name in keys.
pub(super) const NAME: &str = "anepipe-mil";

/// Compiles a stored package. Its weights are linked, not copied: stored files are never written again.
pub fn run(package: &Path, out: &Path) -> Result<(), CompileError> {
    compile(
        package,
        out,
        &CompileOptions { weights: WeightPlacement::HardLink, ..CompileOptions::default() },
    )?;
    Ok(())
}
