//! Putting stored artifacts where a user wants them.
//!
//! Everything is built in a directory beside the destination and renamed over it, so that at each moment there is the
//! earlier output or the new one, whole. That directory's lock shows that its maker lives; one without is swept away.

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::error::{Doing, Result, StoreError};
use crate::objects::is_untouched;
use crate::scratch::{Scratch, check_inside};
use crate::session::remove_all;
use crate::store::Store;
use crate::tree::Tree;

/// How stored bytes get to their destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Hard links to the objects: no space and next to no time. The files are read-only and all dated 1980-01-02. Where a
    /// link is impossible, as across file systems, a copy with the same looks.
    Link,
    /// Copies that the user may change.
    Copy,
}

/// Which directories may be replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Empty,
    Anything,
}

impl Store {
    /// Puts `artifact` at `dest`, atomically. Missing parents are created; a file there is replaced.
    ///
    /// A directory is replaced only if it is empty. Nothing happens if it holds this very artifact as hard links already.
    /// Otherwise it is [`StoreError::Refused`], because it may be anything: a caller that has made sure that it is an
    /// earlier output calls [`replace`](Self::replace).
    pub fn materialize(&self, artifact: &Artifact, dest: &Path, how: How) -> Result<()> {
        self.put_at(artifact, dest, how, Over::Empty)
    }

    /// As [`materialize`](Self::materialize), over whatever is at `dest`, directories and all that is in them included.
    pub fn replace(&self, artifact: &Artifact, dest: &Path, how: How) -> Result<()> {
        self.put_at(artifact, dest, how, Over::Anything)
    }

    /// Puts hard links to the stored directory `artifact` at `name` in a scratch directory, for a stage that reads it.
    pub fn link_into(&self, scratch: &Scratch, artifact: &Artifact, name: &str) -> Result<PathBuf> {
        let dest = scratch.path().join(name);
        check_inside(&*self.session()?, &dest)?;
        self.put_dir(&self.tree(artifact)?, &dest, How::Link)?;
        Ok(dest)
    }

    fn put_at(&self, artifact: &Artifact, dest: &Path, how: How, over: Over) -> Result<()> {
        let doing = || format!("writing {}", dest.display());
        let dest = std::path::absolute(dest).doing(doing())?;
        let (Some(parent), Some(name)) = (dest.parent(), dest.file_name()) else {
            return Err(StoreError::refused("writing", &dest, "it cannot be replaced"));
        };
        if self.dir().starts_with(&dest) || dest.starts_with(self.dir()) {
            return Err(StoreError::refused("writing", &dest, "it is, or is in, or holds, the cache itself"));
        }
        let tree = if artifact.is_tree() { Some(self.tree(artifact)?) } else { None };
        if how == How::Link && self.is_linked(artifact, tree.as_ref(), &dest) {
            return Ok(());
        }
        if over == Over::Empty {
            check_free(&dest)?;
        }
        fs::create_dir_all(parent).doing(doing())?;
        let stage = Stage::beside(parent, &name.to_string_lossy()).doing(doing())?;
        let new = stage.path.join("new");
        match &tree {
            None => self.put_file(artifact.digest(), artifact.size(), &new, how)?,
            Some(tree) => self.put_dir(tree, &new, how)?,
        }
        // Another process may put its output there, or take it away, between a look and a rename: then look again.
        for _ in 0..TRIES {
            if over == Over::Empty {
                check_free(&dest)?;
            }
            match move_in(&new, &dest, over) {
                Err(e) if is_overtaken(&e) => {}
                result => return result.doing(doing()),
            }
        }
        Err(StoreError::Busy { doing: "writing an output that other processes keep replacing", dir: dest })
    }

    fn put_dir(&self, tree: &Tree, dest: &Path, how: How) -> Result<()> {
        let doing = || format!("writing {}", dest.display());
        fs::create_dir(dest).doing(doing())?;
        for (path, node) in tree.iter() {
            let path = dest.join(path);
            match node {
                crate::Node::EmptyDir => fs::create_dir_all(&path).doing(doing())?,
                crate::Node::File { digest, size } => {
                    if let Some(parent) = path.parent() {
                        fs::create_dir_all(parent).doing(doing())?;
                    }
                    self.put_file(&digest, size, &path, how)?;
                }
            }
        }
        Ok(())
    }

    fn put_file(&self, digest: &Digest, size: u64, dest: &Path, how: How) -> Result<()> {
        let object = self.path_of(digest);
        if !self.objects().has(digest, size) {
            return Err(StoreError::missing(object, digest));
        }
        if how == How::Link && self.objects().link(digest, size, dest).is_ok() {
            return Ok(());
        }
        let doing = || format!("writing {}", dest.display());
        // Clones instead of copying where the file system can.
        let copied = fs::copy(&object, dest).doing(doing())?;
        if copied != size {
            return Err(StoreError::missing(object, digest));
        }
        let file = File::open(dest).doing(doing())?;
        match how {
            How::Link => crate::objects::seal(&file),
            How::Copy => file.set_permissions(Permissions::from_mode(0o644)),
        }
        .doing(doing())
    }

    /// Whether `dest` consists of hard links to the artifact's objects, and of nothing else.
    fn is_linked(&self, artifact: &Artifact, tree: Option<&Tree>, dest: &Path) -> bool {
        let linked = |path: &Path, digest: &Digest| {
            let (Ok(there), Ok(object)) =
                (std::fs::symlink_metadata(path), std::fs::symlink_metadata(self.path_of(digest)))
            else {
                return false;
            };
            there.is_file()
                && is_untouched(&there)
                && (there.dev(), there.ino()) == (object.dev(), object.ino())
        };
        match tree {
            None => linked(dest, artifact.digest()),
            Some(tree) => {
                let Some(found) = listing(dest) else { return false };
                found.len() == tree.len()
                    && found.iter().zip(tree.iter()).all(|((name, is_dir), (path, node))| match node {
                        crate::Node::File { digest, .. } => {
                            name == path && !is_dir && linked(&dest.join(path), &digest)
                        }
                        crate::Node::EmptyDir => name == path && *is_dir,
                    })
            }
        }
    }
}

/// Every file and empty directory below `dir`, sorted as in a tree; `None` if it cannot be listed whole.
fn listing(dir: &Path) -> Option<Vec<(String, bool)>> {
    let mut found = Vec::new();
    let mut pending = vec![String::new()];
    while let Some(prefix) = pending.pop() {
        let mut empty = true;
        for entry in std::fs::read_dir(dir.join(&prefix)).ok()? {
            empty = false;
            let entry = entry.ok()?;
            let name = format!("{prefix}{}", entry.file_name().to_str()?);
            if entry.file_type().ok()?.is_dir() {
                pending.push(format!("{name}/"));
            } else {
                found.push((name, false));
            }
        }
        if empty && !prefix.is_empty() {
            found.push((prefix.trim_end_matches('/').to_owned(), true));
        }
    }
    found.sort_unstable();
    Some(found)
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// How often an output may be overtaken by another process.
const TRIES: usize = 100;

/// A directory with something in it may be anything.
fn check_free(dest: &Path) -> Result<()> {
    if std::fs::symlink_metadata(dest).is_ok_and(|meta| meta.is_dir()) && !is_empty(dest) {
        return Err(StoreError::refused("writing", dest, "it is a directory with something else in it"));
    }
    Ok(())
}

fn is_overtaken(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let kinds = [
        Kind::NotFound,
        Kind::AlreadyExists,
        Kind::DirectoryNotEmpty,
        Kind::IsADirectory,
        Kind::NotADirectory,
    ];
    kinds.contains(&error.kind())
}

/// Renames `new` to `dest`. What was at `dest` lands beside `new`, to be removed with the stage.
fn move_in(new: &Path, dest: &Path, over: Over) -> io::Result<()> {
    let Ok(old) = std::fs::symlink_metadata(dest) else { return fs::rename(new, dest) };
    if old.is_dir() && over == Over::Empty {
        // Fails if it is not empty, whatever happened since the last look.
        fs::remove_dir(dest)?;
        return fs::rename(new, dest);
    }
    if !old.is_dir() && !fs::symlink_metadata(new)?.is_dir() {
        return fs::rename(new, dest);
    }
    exchange(new, dest)
}

/// Swaps the two.
fn exchange(new: &Path, dest: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, new, CWD, dest, RenameFlags::EXCHANGE) {
        // File systems without exchange: two renames, with a moment between them in which there is nothing.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            let aside = new.with_file_name("old");
            fs::rename(dest, &aside)?;
            fs::rename(new, dest).inspect_err(|_| {
                let _ = std::fs::rename(&aside, dest);
            })
        }
        result => result.map_err(|e| {
            io::Error::new(io::Error::from(e).kind(), format!("cannot replace {}: {e}", dest.display()))
        }),
    }
}

/// A directory beside the destination, removed on drop.
struct Stage {
    path: PathBuf,
    _lock: File,
}

impl Stage {
    fn beside(parent: &Path, name: &str) -> io::Result<Self> {
        let prefix = format!(".{name}.anepipe-");
        for entry in fs::read_dir(parent)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix)
                && let Ok(dir) = File::open(entry.path())
                && dir.try_lock().is_ok()
            {
                remove_all(&entry.path());
                // Not before all of it is gone, or its maker, who is about to lock it, would believe it to be there.
                drop(dir);
            }
        }
        loop {
            let path = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?.keep();
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                // Another process took the not yet locked directory for a left-over.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            match lock.try_lock() {
                Ok(()) if path.exists() => return Ok(Self { path, _lock: lock }),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        remove_all(&self.path);
    }
}
