//! A shipped bundle on disk: read, checked, and handed out as absolute paths.

pub mod manifest;
mod parts;
#[cfg(test)]
mod tests;

use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use self::manifest::{FileEntry, Manifest, SCHEMA, ShardEntry};
pub use self::parts::{HeadPart, Parts};

/// The manifest's name in its bundle.
pub const MANIFEST_FILE: &str = "manifest.json";

/// A manifest is a few kilobytes a shard; anything near this is not one.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// A bundle whose every file is there and is what the manifest says.
#[derive(Debug)]
pub struct Bundle {
    root: PathBuf,
    manifest: Manifest,
}

/// A bundle that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// No manifest.
    #[error("opening the bundle {}: it has no manifest.json; build one with `anepipe build --out {}`", path.display(), path.display())]
    NotABundle {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("opening a bundle: {0}")]
    Io(#[from] std::io::Error),
    /// The manifest is not one.
    #[error("opening the bundle {}: its manifest.json is not a manifest: {reason}; build the bundle again", path.display())]
    Malformed {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The manifest is of another schema.
    #[error(
        "opening the bundle {}: its manifest has schema {found}, and this anepipe reads {SCHEMA}; build the bundle again, or use the \
         anepipe that made it",
        path.display()
    )]
    Schema {
        /// The folder.
        path: PathBuf,
        /// The schema it names.
        found: u64,
    },
    /// A listed file is absent.
    #[error("opening the bundle {}: {file} is missing; build the bundle again", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
        /// The absent file.
        file: String,
    },
    /// A listed file is not what was shipped.
    #[error("opening the bundle {}: {file} is damaged: {reason}; build the bundle again", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// The damaged file.
        file: String,
        /// How it shows.
        reason: String,
    },
    /// The bundle is sound, and is not the whole model.
    #[error(
        "the bundle {} holds only a part of its model: {lacks} are not in it; \
         build every layer of the model, with `anepipe build` and without --layers",
        path.display()
    )]
    Partial {
        /// The folder.
        path: PathBuf,
        /// The first part that is not there, in the plural.
        lacks: String,
    },
}

impl Bundle {
    /// Opens the bundle in `root` and checks every file of it against the manifest, on all cores.
    pub fn open(root: &Path) -> Result<Self, BundleError> {
        Self::open_with(root, &hash)
    }

    /// As [`open`](Self::open), with another way to a file's blake3 in hexadecimal: one that remembers, since hashing
    /// gigabytes takes seconds.
    pub fn open_with(root: &Path, digest: &Digests<'_>) -> Result<Self, BundleError> {
        let manifest = read_manifest(root)?;
        let bundle = Self { root: root.to_owned(), manifest };
        bundle.check_names()?;
        let files = bundle.manifest.files.par_iter();
        files.try_for_each(|(name, entry)| bundle.check(name, entry, digest))?;
        Ok(bundle)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The place of a path of the manifest.
    pub fn resolve(&self, path: &str) -> Result<PathBuf, BundleError> {
        let inner = Path::new(path);
        let inside = !path.is_empty() && inner.components().all(|part| matches!(part, Component::Normal(_)));
        if inside {
            Ok(self.root.join(inner))
        } else {
            let reason = format!("the path {path:?} does not stay inside the bundle");
            Err(BundleError::Malformed { path: self.root.clone(), reason })
        }
    }

    /// Whatever the manifest speaks of must be among the files whose digests it lists: nothing unchecked is ever loaded.
    fn check_names(&self) -> Result<(), BundleError> {
        let Manifest { shards, gates, embedding, tokenizer, token_embeddings, files, .. } = &self.manifest;
        let unlisted = |path: &str| BundleError::Malformed {
            path: self.root.clone(),
            reason: format!("it names {path} and lists no digest of it"),
        };
        for ShardEntry { path, .. } in shards {
            self.resolve(path)?;
            let folder = format!("{path}/");
            let first = files.range(folder.clone()..).next();
            first.filter(|(name, _)| name.starts_with(&folder)).ok_or_else(|| unlisted(path))?;
            self.check_folder(path)?;
        }
        let reports = gates.iter().map(|gate| &gate.report);
        for path in reports.chain(embedding).chain(tokenizer).chain([token_embeddings]) {
            self.resolve(path)?;
            files.get(path).ok_or_else(|| unlisted(path))?;
        }
        Ok(())
    }

    /// A device reads what it finds in a shard's folder, so nothing may lie there that is not listed.
    fn check_folder(&self, folder: &str) -> Result<(), BundleError> {
        let entries = match fs_err::read_dir(self.resolve(folder)?) {
            // Its files are missing, each by its own name.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.check_folder(&name)?;
            } else if !self.manifest.files.contains_key(&name) {
                let reason = "the manifest lists no digest of it".to_owned();
                return Err(BundleError::Damaged { path: self.root.clone(), file: name, reason });
            }
        }
        Ok(())
    }

    fn check(&self, name: &str, entry: &FileEntry, digest: &Digests<'_>) -> Result<(), BundleError> {
        let path = self.resolve(name)?;
        let damaged =
            |reason| BundleError::Damaged { path: self.root.clone(), file: name.to_owned(), reason };
        let size = match fs_err::metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Err(damaged("it is not a file".to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(BundleError::Missing { path: self.root.clone(), file: name.to_owned() });
            }
            Err(error) => return Err(error.into()),
        };
        if size != entry.size {
            return Err(damaged(format!("it has {size} bytes, not {}", entry.size)));
        }
        let found = digest(&path)?;
        if found == entry.blake3 {
            Ok(())
        } else {
            Err(damaged(format!("its blake3 is {found}, not {}", entry.blake3)))
        }
    }
}

/// Tells the blake3 of a file, in hexadecimal.
pub type Digests<'a> = dyn Fn(&Path) -> std::io::Result<String> + Sync + 'a;

/// The blake3 of the file at `path`, in hexadecimal.
pub fn hash(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs_err::File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Reads the manifest of the bundle in `root`, and looks at nothing else.
pub fn read_manifest(root: &Path) -> Result<Manifest, BundleError> {
    let path = root.join(MANIFEST_FILE);
    let malformed = |reason| BundleError::Malformed { path: root.to_owned(), reason };
    match fs_err::metadata(&path) {
        Ok(metadata) if metadata.len() > MAX_MANIFEST_BYTES => {
            return Err(malformed(format!("it has {} bytes", metadata.len())));
        }
        Ok(_) => {}
        Err(_) => return Err(BundleError::NotABundle { path: root.to_owned() }),
    }
    let value: serde_json::Value =
        serde_json::from_slice(&fs_err::read(&path)?).map_err(|error| malformed(error.to_string()))?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(found) => return Err(BundleError::Schema { path: root.to_owned(), found }),
        None => return Err(malformed("it names no schema".to_owned())),
    }
    serde_json::from_value(value).map_err(|error| malformed(error.to_string()))
}
