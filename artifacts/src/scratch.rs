//! A stage's own directory inside the cache.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::error::{Doing, Result, StoreError};
use crate::session::{Session, remove_all};

/// A temporary directory on the cache's file system, from [`Store::scratch`](crate::Store::scratch). A stage writes its
/// results here and hands them to [`Store::ingest`](crate::Store::ingest), which moves them. Removed on drop; what a killed
/// process leaves is removed by the next one that opens the cache.
#[derive(Debug)]
pub struct Scratch {
    dir: Option<TempDir>,
    session: Arc<Session>,
}

impl Scratch {
    pub(crate) fn new(session: Arc<Session>, label: &str) -> Result<Self> {
        // The label is for people who look into the directory; only what is harmless in a name is kept.
        let mut prefix: String = label
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' })
            .take(40)
            .collect();
        prefix.push('-');
        let dir = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(session.dir())
            .doing(format!("creating a scratch directory for {label}"))?;
        Ok(Self { dir: Some(dir), session })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.as_ref().map_or(self.session.dir(), TempDir::path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take() {
            remove_all(&dir.keep());
        }
    }
}

/// Refuses paths that are not below the session's directory: moving them would take somebody's file away.
pub(crate) fn check_inside(session: &Session, path: &Path) -> Result<()> {
    let normal = path.components().all(|part| part != std::path::Component::ParentDir);
    if normal && path.starts_with(session.dir()) && path != session.dir() {
        return Ok(());
    }
    Err(StoreError::refused(
        "storing",
        path,
        "it is not in a scratch directory of this store; import it instead",
    ))
}
