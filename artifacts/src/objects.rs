//! The objects: read-only files named by the digest of their content.
//!
//! Every object carries the same modification time, [`OBJECT_TIME`]. Outputs may be hard links to objects, and somebody
//! may edit such an output in place; that changes the time, so that the look that every lookup takes at an object
//! (size and time, one system call) finds it. An object with another size is a miss; one with another time is hashed again, and
//! is put right or set aside.

use std::collections::{HashMap, HashSet};
use std::fs::{File, FileTimes, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fs_err as fs;
use tempfile::TempPath;

use crate::digest::Digest;
use crate::error::{Doing, Result};
use crate::hash::hash_file;
use crate::layout::Layout;

/// The modification time of every object: 1980-01-02 00:00 UTC, a time that zip and tar can hold in every time zone.
pub(crate) const OBJECT_TIME: Duration = Duration::from_hours(87_672);

const READ_ONLY: u32 = 0o444;

/// The objects of one cache.
#[derive(Debug)]
pub(crate) struct Objects {
    layout: Layout,
    /// What this process wrote or hashed itself: beyond doubt even after a loss of power in an earlier boot.
    proven: Mutex<HashSet<Digest>>,
    /// The objects that were given further names, by device and inode.
    named: Mutex<HashMap<(u64, u64), (Digest, u64)>>,
}

impl Objects {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, proven: Mutex::default(), named: Mutex::default() }
    }

    pub(crate) fn path_of(&self, digest: &Digest) -> PathBuf {
        self.layout.object(digest)
    }

    fn proven(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn named(&self) -> MutexGuard<'_, HashMap<(u64, u64), (Digest, u64)>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was proven, because another process may have changed the store meanwhile.
    pub(crate) fn doubt(&self) {
        self.proven().clear();
        self.named().clear();
    }

    /// Gives an object one more name.
    pub(crate) fn link(&self, digest: &Digest, size: u64, dest: &Path) -> std::io::Result<()> {
        let path = self.path_of(digest);
        std::fs::hard_link(&path, dest)?;
        if let Ok(meta) = std::fs::symlink_metadata(&path) {
            self.named().insert((meta.dev(), meta.ino()), (*digest, size));
        }
        Ok(())
    }

    /// The object that `seen`, the look of a file with several names, belongs to: one that was linked by [`link`](Self::link), is
    /// still in its place and was not written to since it was stored.
    pub(crate) fn of_link(&self, seen: &Metadata) -> Option<(Digest, u64)> {
        let inode = |meta: &Metadata| (meta.dev(), meta.ino());
        let (digest, size) = *self.named().get(&inode(seen))?;
        let object = std::fs::symlink_metadata(self.path_of(&digest)).ok()?;
        let same = inode(&object) == inode(seen) && is_untouched(&object) && object.len() == size;
        same.then_some((digest, size))
    }

    /// Whether the object is there, by a look at its size and time.
    pub(crate) fn has(&self, digest: &Digest, size: u64) -> bool {
        let path = self.path_of(digest);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if !meta.is_file() || meta.len() != size => false,
            Ok(meta) => is_untouched(&meta) || self.prove(digest, size),
            Err(_) => false,
        }
    }

    /// Whether the object is there, by its content. Once per process; what does not match its name is set aside.
    pub(crate) fn prove(&self, digest: &Digest, size: u64) -> bool {
        let path = self.path_of(digest);
        let Ok(file) = File::open(&path) else { return false };
        let Ok(before) = file.metadata() else { return false };
        if !before.is_file() || before.len() != size {
            return false;
        }
        if is_untouched(&before) && self.proven().contains(digest) {
            return true;
        }
        match hash_file(&file) {
            Ok(found) if found == (*digest, size) => {
                let _ = seal(&file);
                self.proven().insert(*digest);
                true
            }
            Ok(_) => {
                self.set_aside(&path, &before);
                false
            }
            Err(_) => false,
        }
    }

    /// Takes in a finished file that is beside the objects on the same file system. Afterwards the object is there, whole,
    /// read-only, whatever was there before.
    pub(crate) fn publish(&self, file: &File, temp: TempPath, digest: &Digest, size: u64) -> Result<()> {
        // What is there already may be damaged in a way that a look does not show; then ours replaces it.
        if self.prove(digest, size) {
            return Ok(());
        }
        let doing = "storing an object";
        seal(file).doing(doing)?;
        let path = self.path_of(digest);
        rename_into(temp, &path).doing(doing)?;
        self.proven().insert(*digest);
        Ok(())
    }

    /// Moves a damaged object to `quarantine/`, unless somebody has replaced it since it was looked at.
    pub(crate) fn set_aside(&self, path: &Path, seen: &Metadata) -> bool {
        let Ok(now) = std::fs::symlink_metadata(path) else { return false };
        if (now.dev(), now.ino()) != (seen.dev(), seen.ino()) {
            return false;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let to = self.layout.quarantine().join(format!("{name}.{stamp}"));
        fs::create_dir_all(self.layout.quarantine()).and_then(|()| fs::rename(path, to)).is_ok()
    }
}

/// Renames over `path`, creating the fan directory if it is the first there.
pub(crate) fn rename_into(temp: TempPath, path: &Path) -> std::io::Result<()> {
    match temp.persist(path) {
        Ok(()) => Ok(()),
        Err(e) if e.error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            e.path.persist(path).map_err(|e| e.error)
        }
        Err(e) => Err(e.error),
    }
}

/// Whether nobody has written to the object since it was stored.
pub(crate) fn is_untouched(meta: &Metadata) -> bool {
    meta.mtime() == OBJECT_TIME.as_secs() as i64 && meta.mtime_nsec() == 0
}

/// Makes an object read-only and gives it its time.
pub(crate) fn seal(file: &File) -> std::io::Result<()> {
    file.set_permissions(Permissions::from_mode(READ_ONLY))?;
    file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + OBJECT_TIME))
}
