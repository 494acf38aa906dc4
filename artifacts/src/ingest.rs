//! Taking files and directories in.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use tempfile::TempPath;

use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::error::{Doing, Result, StoreError};
use crate::hash::hash_file;
use crate::scratch::check_inside;
use crate::store::Store;
use crate::tree::Tree;

/// Where the bytes go to: a finished file of a scratch may become the object itself; anything else is copied.
#[derive(Clone, Copy)]
enum By {
    Move,
    Copy,
}

/// What a walk found: nothing is moved before all of it is known to be storable.
enum Found {
    File(PathBuf, Metadata),
    Dir(Vec<(String, Option<(PathBuf, Metadata)>)>),
}

impl Store {
    /// Stores a file or directory out of a [`Scratch`](crate::Scratch) of this store. The files are hashed and moved, so
    /// the path is gone afterwards. Symbolic links and special files are refused, and then nothing has been moved.
    pub fn ingest(&self, path: &Path) -> Result<Artifact> {
        check_inside(&*self.session()?, path)?;
        let artifact = self.take(path, By::Move)?;
        crate::session::remove_all(path);
        Ok(artifact)
    }

    /// Stores a copy of any file or directory.
    pub fn import(&self, path: &Path) -> Result<Artifact> {
        self.take(path, By::Copy)
    }

    /// Stores a directory made of objects that are here already, without touching their bytes.
    pub fn put_tree(&self, tree: &Tree) -> Result<Artifact> {
        for (_, digest, size) in tree.files() {
            if !self.objects().has(&digest, size) {
                return Err(StoreError::missing(self.path_of(&digest), &digest));
            }
        }
        match self.put_bytes(&tree.to_canonical())? {
            Artifact::Blob { digest, size } | Artifact::Tree { digest, size } => {
                Ok(Artifact::Tree { digest, size })
            }
        }
    }

    fn take(&self, path: &Path, by: By) -> Result<Artifact> {
        match walk(path)? {
            Found::File(path, meta) => {
                let (digest, size) = self.take_file(&path, &meta, by)?;
                Ok(Artifact::Blob { digest, size })
            }
            Found::Dir(entries) => {
                let mut tree = Tree::new();
                for (name, file) in entries {
                    match file {
                        Some((path, meta)) => {
                            let (digest, size) = self.take_file(&path, &meta, by)?;
                            tree.insert_file(name, digest, size)?;
                        }
                        None => tree.insert_dir(name)?,
                    }
                }
                self.put_tree(&tree)
            }
        }
    }

    fn take_file(&self, path: &Path, seen: &Metadata, by: By) -> Result<(Digest, u64)> {
        let doing = || format!("storing {}", path.display());
        // A stage that passes on what it was given, under another name.
        if seen.nlink() > 1
            && let Some(known) = self.objects().of_link(seen)
        {
            return Ok(known);
        }
        let file = fs::File::open(path).doing(doing())?.into_file();
        // A second name for the file would be a way to change the object from outside, so such a file is copied too,
        // unless it is the object itself under its second name.
        let shared = seen.nlink() > 1;
        if matches!(by, By::Copy) || shared {
            if shared && let Some(known) = self.is_object(&file)? {
                return Ok(known);
            }
            let mut writer = self.blob_writer()?;
            io::copy(&mut &file, &mut writer).doing(doing())?;
            let artifact = writer.finish()?;
            return Ok((*artifact.digest(), artifact.size()));
        }
        let (digest, size) = hash_file(&file).doing(doing())?;
        let temp = TempPath::try_from_path(path).doing(doing())?;
        self.objects().publish(&file, temp, &digest, size)?;
        Ok((digest, size))
    }

    /// The digest and size of `file` if it is an object of this store.
    fn is_object(&self, file: &std::fs::File) -> Result<Option<(Digest, u64)>> {
        let doing = "storing a file with several names";
        let (digest, size) = hash_file(file).doing(doing)?;
        let meta = file.metadata().doing(doing)?;
        let same = std::fs::symlink_metadata(self.path_of(&digest))
            .is_ok_and(|object| (object.dev(), object.ino()) == (meta.dev(), meta.ino()));
        Ok(same.then_some((digest, size)))
    }
}

fn walk(top: &Path) -> Result<Found> {
    let doing = || format!("storing {}", top.display());
    let meta = fs::symlink_metadata(top).doing(doing())?;
    if !meta.is_dir() {
        check_kind(top, &meta)?;
        return Ok(Found::File(top.to_owned(), meta));
    }
    let mut entries = Vec::new();
    let mut pending = vec![(String::new(), top.to_owned())];
    while let Some((prefix, dir)) = pending.pop() {
        let mut empty = true;
        for entry in fs::read_dir(&dir).doing(doing())? {
            empty = false;
            let path = entry.doing(doing())?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(StoreError::refused("storing", &path, "its name is not UTF-8"));
            };
            let name = format!("{prefix}{name}");
            let meta = fs::symlink_metadata(&path).doing(doing())?;
            if meta.is_dir() {
                pending.push((format!("{name}/"), path));
            } else {
                check_kind(&path, &meta)?;
                entries.push((name, Some((path, meta))));
            }
        }
        if empty && !prefix.is_empty() {
            entries.push((prefix.trim_end_matches('/').to_owned(), None));
        }
    }
    // Names that no tree can hold are found here, before anything moves.
    let mut trial = Tree::new();
    for (name, file) in &entries {
        match file {
            Some(_) => trial.insert_file(name.clone(), Digest::from_bytes([0; 32]), 0)?,
            None => trial.insert_dir(name.clone())?,
        }
    }
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Found::Dir(entries))
}

fn check_kind(path: &Path, meta: &Metadata) -> Result<()> {
    let why = if meta.is_symlink() {
        "it is a symbolic link, whose target may be anything; store the file itself"
    } else if meta.is_file() {
        return Ok(());
    } else {
        "it is neither a file nor a directory"
    };
    Err(StoreError::refused("storing", path, why))
}
