//! A process's own corner of the cache: `tmp/<id>/`, where everything is written before it is renamed into place.
//!
//! A lock on `tmp/<id>.lock` shows that the owner lives. The lock file is there before the directory and outlives it, so
//! a directory without a held lock belongs to a process that died, and whoever opens the cache next removes it.

use std::fs::TryLockError;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::error::{Doing, Result};

#[derive(Debug)]
pub(crate) struct Session {
    dir: PathBuf,
    lock_path: PathBuf,
    /// Held until the end; the system lets go of it if the process dies.
    _lock: std::fs::File,
}

impl Session {
    /// Starts a session in `tmp`.
    pub(crate) fn start(tmp: &Path) -> Result<Self> {
        let doing = "preparing the cache's temporary directory";
        fs::create_dir_all(tmp).doing(doing)?;
        loop {
            let (file, path) = tempfile::Builder::new()
                .prefix("session-")
                .suffix(".lock")
                .tempfile_in(tmp)
                .doing(doing)?
                .into_parts();
            // A sweep may have come between creation and lock, and removed the file.
            match file.try_lock() {
                Ok(()) if is_same_file(&file, &path) => {}
                Ok(()) | Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(e)) => return Err(e).doing(doing),
            }
            let lock_path = path.keep().map_err(|e| e.error).doing(doing)?;
            let dir = lock_path.with_extension("");
            let session = Self { dir, lock_path, _lock: file };
            fs::create_dir(&session.dir).doing(doing)?;
            return Ok(session);
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes what dead processes left in `tmp`. Best effort: what cannot be removed now is tried again next time.
    pub(crate) fn sweep(tmp: &Path) {
        let Ok(entries) = fs::read_dir(tmp) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|ext| ext == "lock") {
                let Ok(file) = std::fs::File::open(&path) else { continue };
                match file.try_lock() {
                    Ok(()) if is_same_file(&file, &path) => {
                        remove_all(&path.with_extension(""));
                        let _ = std::fs::remove_file(&path);
                    }
                    Ok(()) | Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
                }
            } else if !path.with_extension("lock").exists() {
                remove_all(&path);
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        remove_all(&self.dir);
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

fn is_same_file(file: &std::fs::File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Removes a file or directory whatever it is, also directories that a stage left without write permission.
pub(crate) fn remove_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(meta) = std::fs::symlink_metadata(path) else { return };
    if !meta.is_dir() {
        let _ = std::fs::remove_file(path);
        return;
    }
    if meta.mode() & 0o700 != 0o700 {
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    }
    if let Ok(entries) = std::fs::read_dir(path) {
        entries.flatten().for_each(|entry| remove_all(&entry.path()));
    }
    let _ = std::fs::remove_dir(path);
}
