//! A shipped bundle on disk: read, checked, and handed out as absolute paths.

pub mod manifest;

use std::path::{Component, Path, PathBuf};

use self::manifest::{FileEntry, Manifest, SCHEMA};

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
}

impl Bundle {
    /// Opens the bundle in `root` and checks every file of it against the manifest.
    pub fn open(root: &Path) -> Result<Self, BundleError> {
        let manifest = read_manifest(root)?;
        let bundle = Self { root: root.to_owned(), manifest };
        let shards = bundle.manifest.shards.iter().map(|shard| shard.path.as_str());
        let reports = bundle.manifest.gates.iter().map(|gate| gate.report.as_str());
        let tables = [&bundle.manifest.embedding, &bundle.manifest.tokenizer]
            .into_iter()
            .flatten()
            .map(String::as_str);
        for path in shards.chain(reports).chain(tables).chain([bundle.manifest.token_embeddings.as_str()]) {
            bundle.resolve(path)?;
        }
        for (name, entry) in &bundle.manifest.files {
            bundle.check(name, entry)?;
        }
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

    fn check(&self, name: &str, entry: &FileEntry) -> Result<(), BundleError> {
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
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs_err::File::open(&path)?)?;
        let found = hasher.finalize().to_hex();
        if found.as_str() == entry.blake3 {
            Ok(())
        } else {
            Err(damaged(format!("its blake3 is {found}, not {}", entry.blake3)))
        }
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::manifest::Provenance;
    use super::*;
    use crate::rope::RopeSpec;

    /// A bundle of one file.
    fn bundle() -> (tempfile::TempDir, Manifest) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("data"), b"content").expect("a written file");
        let entry = FileEntry { blake3: blake3::hash(b"content").to_hex().to_string(), size: 7 };
        let manifest = Manifest {
            schema: SCHEMA,
            contract: serde_json::json!({}),
            style: "stateful".to_owned(),
            block: 4,
            widths: vec![1, 4],
            context: 256,
            quantization: "int8".to_owned(),
            shards: vec![],
            rope: RopeSpec { rope_dim: 24, base: 1e4, factors: None, attn_factor: 1.0 },
            token_embeddings: "data".to_owned(),
            embedding: None,
            tokenizer: None,
            gates: vec![],
            files: BTreeMap::from([("data".to_owned(), entry)]),
            provenance: Provenance { source: String::new(), versions: BTreeMap::new() },
        };
        (folder, manifest)
    }

    fn open(folder: &Path, manifest: &impl serde::Serialize) -> Result<Bundle, BundleError> {
        let bytes = serde_json::to_vec(manifest).expect("serializable");
        std::fs::write(folder.join("manifest.json"), bytes).expect("a written manifest");
        Bundle::open(folder)
    }

    #[test]
    fn a_whole_bundle_opens() {
        let (folder, manifest) = bundle();
        let opened = open(folder.path(), &manifest).expect("a whole bundle");
        assert_eq!(opened.manifest(), &manifest);
    }

    #[test]
    fn each_kind_of_damage_is_refused_by_name() {
        type Damage = fn(&Path, &mut serde_json::Value);
        let cases: &[(&str, Damage)] = &[
            ("data is damaged: its blake3", |root, _| {
                std::fs::write(root.join("data"), b"c0ntent").expect("written");
            }),
            ("data is damaged: it has 6 bytes", |root, _| {
                std::fs::write(root.join("data"), b"conten").expect("written");
            }),
            ("data is missing", |root, _| std::fs::remove_file(root.join("data")).expect("removed")),
            ("schema 2", |_, manifest| manifest["schema"] = 2.into()),
            ("names no schema", |_, manifest| manifest["schema"] = "1".into()),
            ("unknown field", |_, manifest| manifest["extra"] = 1.into()),
            ("does not stay inside", |_, manifest| {
                manifest["files"]["../data"] = serde_json::json!({"blake3": "", "size": 0});
            }),
            ("does not stay inside", |_, manifest| {
                manifest["files"]["/etc/passwd"] = serde_json::json!({"blake3": "", "size": 0});
            }),
        ];
        for (expected, damage) in cases {
            let (folder, manifest) = bundle();
            let mut manifest = serde_json::to_value(manifest).expect("serializable");
            damage(folder.path(), &mut manifest);
            let error = open(folder.path(), &manifest).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_folder_without_a_manifest_is_not_a_bundle() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(matches!(Bundle::open(folder.path()), Err(BundleError::NotABundle { .. })));
    }
}
