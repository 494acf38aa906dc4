//! Why a bundle has no page.

use std::path::PathBuf;

use anepipe_runtime::bundle::BundleError;

/// A page that could not be made or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file of the bundle could not be read.
    #[error("reading the bundle {}", bundle.display())]
    Io { bundle: PathBuf, source: std::io::Error },
    /// A file of the bundle is not of the form it should have.
    #[error(
        "reading the bundle {}: {file} is not the {what} that this anepipe knows: {reason}; build the bundle again, or use the \
         anepipe that made it",
        bundle.display()
    )]
    Unknown { bundle: PathBuf, file: String, what: String, reason: String },
    /// The manifest and a report of the bundle do not say the same.
    #[error("reading the bundle {}: its manifest contradicts {file}: {reason}; build the bundle again", bundle.display())]
    Contradiction { bundle: PathBuf, file: String, reason: String },
    /// The page would replace a folder.
    #[error(
        "writing the page {}: it is a folder; give --out the name of a file, such as {}",
        path.display(),
        path.join("report.html").display()
    )]
    Folder { path: PathBuf },
    /// The page could not be written.
    #[error("writing the page {}, which cannot be written there; choose another --out", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}
