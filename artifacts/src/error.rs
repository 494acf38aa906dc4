//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::tree::TreeError;

/// A failure of the store. None of them leaves a half-written object behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds what this operation needs alone (exit code 41).
    #[error("{doing}: the cache {} is in use by another process; try again when it has ended", dir.display())]
    Busy {
        /// What was being done.
        doing: &'static str,
        /// The cache directory.
        dir: PathBuf,
    },
    /// The store contradicts itself (exit code 40).
    #[error("the cache is damaged: {}: {why}; run `anepipe cache verify --repair`", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The cache was written by a later version of anepipe.
    #[error("the cache {} has format {found}, this program knows {known}; use a newer anepipe or another --cache-dir",
        dir.display())]
    Newer {
        /// The cache directory.
        dir: PathBuf,
        /// The format it has.
        found: u32,
        /// The latest format known here.
        known: u32,
    },
    /// The cache directory is not a directory, or holds something else than a cache.
    #[error("{} cannot be a cache: {why}; choose another --cache-dir", dir.display())]
    NotACache {
        /// The path that was given.
        dir: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// Something that the store does not take in or put out.
    #[error("{doing} {}: {why}", path.display())]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// The path concerned.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// No space, quota or allowed file size is left.
    #[error(
        "{doing}: no space left; free some, shrink the cache with `anepipe cache gc`, or choose another --cache-dir"
    )]
    Full {
        /// What was being done.
        doing: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The permissions do not allow it.
    #[error("{doing}: not allowed; check the permissions of the directory or choose another --cache-dir")]
    Denied {
        /// What was being done.
        doing: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file tree that cannot be stored.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An action record that contradicts its key.
    #[error("cannot record the action {stage} ({subject}): {why}")]
    BadRecord {
        /// The record's stage.
        stage: String,
        /// The record's subject.
        subject: String,
        /// What is wrong.
        why: String,
    },
    /// Any other failure of the file system.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's error; names the path.
        #[source]
        source: io::Error,
    },
}

/// The result of an operation of the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    pub(crate) fn corrupt(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), why: why.into() }
    }

    pub(crate) fn missing(path: PathBuf, digest: &Digest) -> Self {
        Self::Corrupt { path, why: format!("object {} is missing or incomplete", digest.short()) }
    }

    pub(crate) fn refused(doing: &'static str, path: &Path, why: impl Into<String>) -> Self {
        Self::Refused { doing, path: path.to_owned(), why: why.into() }
    }

    fn io(doing: String, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::Full { doing, source },
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::Denied { doing, source },
            _ => Self::Io { doing, source },
        }
    }
}

/// Says what was being done when the file system failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| StoreError::io(what.into(), source))
    }
}
