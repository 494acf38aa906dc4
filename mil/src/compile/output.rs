//! The compiled model's directory: made aside, then moved to its name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{CompileErrorKind, Report, WeightPlacement};

/// Folders of a weight directory that nest deeper than this are no weights.
const MAX_DEPTH: usize = 16;

/// Writes `files` and what lies in `weights` (if it exists) as the compiled model `out`.
pub(super) fn write(
    out: &Path,
    files: &[(&str, Vec<u8>)],
    weights: Option<&Path>,
    placement: WeightPlacement,
) -> Result<Report, CompileErrorKind> {
    let name = out.file_name().ok_or_else(|| CompileErrorKind::NoName(out.to_owned()))?;
    check_replaceable(out)?;
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let io = CompileErrorKind::Write;
    fs::create_dir_all(parent).map_err(io)?;
    let aside = tempfile::Builder::new().prefix(".mlmodelc-").tempdir_in(parent).map_err(|error| {
        io(io::Error::new(error.kind(), format!("making a directory in {}: {error}", parent.display())))
    })?;
    // A temporary directory is its owner's alone; the one within has the usual permissions.
    let model = aside.path().join(name);
    let report = fill(&model, files, weights, placement).map_err(io)?;
    replace(&model, out, &aside.path().join(".replaced")).map_err(io)?;
    Ok(report)
}

/// Refuses to replace anything but a compiled model or an empty directory.
fn check_replaceable(out: &Path) -> Result<(), CompileErrorKind> {
    let entries = match fs::symlink_metadata(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if metadata.is_dir() => fs::read_dir(out).map_err(CompileErrorKind::Write)?.count(),
        _ => return Err(CompileErrorKind::OutputExists(out.to_owned())),
    };
    if entries > 0 && !out.join("coremldata.bin").is_file() {
        return Err(CompileErrorKind::OutputExists(out.to_owned()));
    }
    Ok(())
}

fn fill(
    model: &Path,
    files: &[(&str, Vec<u8>)],
    weights: Option<&Path>,
    placement: WeightPlacement,
) -> io::Result<Report> {
    let mut report = Report { files: BTreeMap::new(), hard_linked: 0 };
    for (name, bytes) in files {
        let path = model.join(name);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&path, bytes)?;
        report.files.insert(PathBuf::from(name), bytes.len() as u64);
    }
    if let Some(weights) = weights.filter(|weights| weights.is_dir()) {
        place(weights, model, Path::new("weights"), placement, &mut report, 0)?;
    }
    Ok(report)
}

/// Places what lies in `source` in the folder `relative` of `model`.
fn place(
    source: &Path,
    model: &Path,
    relative: &Path,
    placement: WeightPlacement,
    report: &mut Report,
    depth: usize,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        let message = format!("{}: folders of weights nest too deep", source.display());
        return Err(io::Error::other(message));
    }
    fs::create_dir_all(model.join(relative))?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let relative = relative.join(entry.file_name());
        // A link counts as what it leads to.
        let metadata = fs::metadata(entry.path())?;
        if metadata.is_dir() {
            place(&entry.path(), model, &relative, placement, report, depth + 1)?;
            continue;
        }
        // A further name of a link would be a link, which may lead nowhere from its new place.
        let original = fs::canonicalize(entry.path())?;
        let destination = model.join(&relative);
        if placement == WeightPlacement::HardLink && fs::hard_link(&original, &destination).is_ok() {
            report.hard_linked += 1;
        } else {
            fs::copy(&original, &destination)?;
        }
        report.files.insert(relative, metadata.len());
    }
    Ok(())
}

/// Moves `model` to `out`; what stands there is moved to `old` first, and comes back if that fails.
fn replace(model: &Path, out: &Path, old: &Path) -> io::Result<()> {
    let replaced = match fs::rename(out, old) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    fs::rename(model, out).inspect_err(|_| {
        if replaced {
            // The first error is the one to report.
            let _ = fs::rename(old, out);
        }
    })
}
