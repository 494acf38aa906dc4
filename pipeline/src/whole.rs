//! Files that appear whole or not at all.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file being written under another name, in the folder where it will stand. Dropped before
/// [`commit`](Self::commit), it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct WholeFile {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl WholeFile {
    /// Begins the file that will stand at `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = tempfile::Builder::new()
            .prefix(".writing-")
            // A temporary file is its owner's alone; this one is to be like any other.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)?;
        Ok(Self { temporary, path: path.to_owned() })
    }

    /// The file to write to.
    pub(crate) fn as_file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Where it will stand.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file in its place, in one step, instead of what may be there.
    pub(crate) fn commit(self) -> io::Result<()> {
        self.temporary.persist(&self.path).map(|_| ()).map_err(|error| error.error)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_appears_when_it_is_committed_and_replaces_what_was_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "old").expect("an old file");
        let whole = WholeFile::create(&path).expect("a new file");
        whole.as_file().write_all(b"new").expect("written");
        assert_eq!(std::fs::read(&path).expect("the old file"), b"old");
        whole.commit().expect("committed");
        assert_eq!(std::fs::read(&path).expect("the new file"), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1);
    }

    #[test]
    fn a_file_that_is_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(WholeFile::create(&folder.path().join("file")).expect("a new file"));
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
    }
}
