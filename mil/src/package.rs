//! Packages: `.mlpackage` directories.
//!
//! ```text
//! X.mlpackage/Manifest.json
//! X.mlpackage/Data/com.apple.CoreML/model.mlmodel
//! X.mlpackage/Data/com.apple.CoreML/weights/weight.bin
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::proto::{ModelSpec, ProtoError};

const MANIFEST: &str = "Manifest.json";
const DATA: &str = "Data";
const AUTHOR: &str = "com.apple.CoreML";
const MODEL_PATH: &str = "com.apple.CoreML/model.mlmodel";
const WEIGHTS_PATH: &str = "com.apple.CoreML/weights";
const WEIGHT_FILE: &str = "weight.bin";

/// Identifiers of the two items of a package written here. coremltools draws them at random, which would make every
/// package differ; nothing depends on them but that they differ.
const MODEL_ID: &str = "2B1A51C9-6B1E-4C36-9E0B-6D696C000001";
const WEIGHTS_ID: &str = "2B1A51C9-6B1E-4C36-9E0B-6D696C000002";

/// A package whose manifest has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    path: PathBuf,
    model: PathBuf,
}

/// A package that cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The operating system refused; the message names the path.
    #[error("opening a package: {0}")]
    Io(#[from] io::Error),
    /// No manifest.
    #[error("{}: there is no Manifest.json here, so this is no .mlpackage", path.display())]
    NoManifest {
        /// What was opened.
        path: PathBuf,
    },
    /// The manifest is not what a manifest is.
    #[error("{}: {error}; the manifest is damaged", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong, and where.
        error: serde_json::Error,
    },
    /// The manifest names no root model.
    #[error("{}: no item has the identifier `{root}` of the root model; the manifest is damaged", path.display())]
    NoRootModel {
        /// The manifest.
        path: PathBuf,
        /// The identifier.
        root: String,
    },
    /// The manifest leads out of the package.
    #[error("{}: the item path `{item}` leads out of the package", path.display())]
    Outside {
        /// The manifest.
        path: PathBuf,
        /// As the manifest has it.
        item: String,
    },
    /// The model is a directory, or something else that is no file.
    #[error("{}: a model.mlmodel is expected here, this is no file", path.display())]
    NotAFile {
        /// What should be a file.
        path: PathBuf,
    },
    /// The model does not decode.
    #[error("{}: {error}", path.display())]
    Model {
        /// The `model.mlmodel`.
        path: PathBuf,
        /// What is wrong, and where.
        error: ProtoError,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    file_format_version: String,
    item_info_entries: BTreeMap<String, Item>,
    root_model_identifier: String,
}

#[derive(Serialize, Deserialize)]
struct Item {
    #[serde(default)]
    author: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    name: String,
    path: String,
}

impl Package {
    /// Reads the manifest of the package at `path`. A bare `.mlmodel` file is a package too, whose weights (if any)
    /// lie in a folder `weights` beside it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PackageError> {
        let path = path.as_ref().to_owned();
        if fs::metadata(&path)?.is_file() {
            return Ok(Self { model: path.clone(), path });
        }
        let manifest_path = path.join(MANIFEST);
        let text = match fs::read(&manifest_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(PackageError::NoManifest { path });
            }
            text => text?,
        };
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| PackageError::Manifest { path: manifest_path.clone(), error })?;
        let root = manifest.root_model_identifier;
        let Some(item) = manifest.item_info_entries.get(&root) else {
            return Err(PackageError::NoRootModel { path: manifest_path, root });
        };
        let relative = Path::new(&item.path);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(PackageError::Outside { path: manifest_path, item: item.path.clone() });
        }
        Ok(Self { model: path.join(DATA).join(relative), path })
    }

    /// Makes the directories of a package at `path` and writes its manifest; the model and its weights are for the
    /// caller to write, at [`Package::model_path`] and [`Package::weight_path`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, PackageError> {
        let path = path.as_ref().to_owned();
        fs::create_dir_all(path.join(DATA).join(WEIGHTS_PATH))?;
        write_manifest(&path)?;
        Ok(Self { model: path.join(DATA).join(MODEL_PATH), path })
    }

    /// The package's directory (or the bare model).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is a bare model, without a manifest.
    pub fn is_bare(&self) -> bool {
        self.model == self.path
    }

    /// The `model.mlmodel`.
    pub fn model_path(&self) -> &Path {
        &self.model
    }

    /// The directory that `@model_path` stands for: the one the model lies in.
    pub fn model_directory(&self) -> &Path {
        self.model.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// The directory of weight files; a model without large constants has none.
    pub fn weights_directory(&self) -> PathBuf {
        self.model_directory().join("weights")
    }

    /// The weight file, as coremltools names it.
    pub fn weight_path(&self) -> PathBuf {
        self.weights_directory().join(WEIGHT_FILE)
    }

    /// Reads the bytes of `model.mlmodel`.
    pub fn model_bytes(&self) -> Result<Vec<u8>, PackageError> {
        if !fs::metadata(&self.model)?.is_file() {
            return Err(PackageError::NotAFile { path: self.model.clone() });
        }
        Ok(fs::read(&self.model)?)
    }

    /// Reads and decodes `model.mlmodel`.
    pub fn model(&self) -> Result<ModelSpec, PackageError> {
        self.decode(&self.model_bytes()?)
    }

    /// Decodes bytes that were read from `model.mlmodel`.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<ModelSpec, PackageError> {
        ModelSpec::decode(bytes).map_err(|error| PackageError::Model { path: self.model.clone(), error })
    }
}

/// Writes the manifest of the package in `directory`: always the same bytes, in coremltools' layout.
pub fn write_manifest(directory: impl AsRef<Path>) -> Result<(), PackageError> {
    Ok(fs::write(directory.as_ref().join(MANIFEST), manifest()?)?)
}

/// The bytes of the manifest of a package written here.
pub fn manifest() -> Result<Vec<u8>, PackageError> {
    let item = |name: &str, description: &str, path: &str| Item {
        author: AUTHOR.to_owned(),
        description: description.to_owned(),
        name: name.to_owned(),
        path: path.to_owned(),
    };
    let manifest = Manifest {
        file_format_version: "1.0.0".to_owned(),
        item_info_entries: BTreeMap::from([
            (MODEL_ID.to_owned(), item("model.mlmodel", "CoreML Model Specification", MODEL_PATH)),
            (WEIGHTS_ID.to_owned(), item("weights", "CoreML Model Weights", WEIGHTS_PATH)),
        ]),
        root_model_identifier: MODEL_ID.to_owned(),
    };
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    manifest
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .map_err(io::Error::from)?;
    text.push(b'\n');
    Ok(text)
}

/// Where the files of a package written here lie in it.
pub mod place {
    /// The manifest.
    pub const MANIFEST: &str = super::MANIFEST;
    /// The program.
    pub const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
    /// The weight file.
    pub const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_written_opens_and_is_the_same_every_time() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.mlpackage"), dir.path().join("b.mlpackage"));
        let package = Package::create(&a).unwrap();
        Package::create(&b).unwrap();
        assert_eq!(Package::open(&a).unwrap(), package);
        assert_eq!(package.model_path(), a.join(place::MODEL));
        assert_eq!(package.weight_path(), a.join(place::WEIGHTS));
        assert_eq!(fs::read(a.join(place::MANIFEST)).unwrap(), super::manifest().unwrap());
        let manifest = |path: &Path| fs::read_to_string(path.join(MANIFEST)).unwrap();
        assert_eq!(manifest(&a), manifest(&b));
        assert!(
            manifest(&a)
                .starts_with("{\n    \"fileFormatVersion\": \"1.0.0\",\n    \"itemInfoEntries\": {\n")
        );
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = |manifest: &str| {
            fs::write(dir.path().join(MANIFEST), manifest).unwrap();
            Package::open(dir.path())
        };
        assert!(matches!(Package::open(dir.path()), Err(PackageError::NoManifest { .. })));
        assert!(matches!(open("{"), Err(PackageError::Manifest { .. })));
        assert!(matches!(open("[]"), Err(PackageError::Manifest { .. })));
        let nothing = r#"{"fileFormatVersion": "1.0.0", "itemInfoEntries": {}, "rootModelIdentifier": "x"}"#;
        assert!(matches!(open(nothing), Err(PackageError::NoRootModel { root, .. }) if root == "x"));
        for path in ["../../model.mlmodel", "/etc/passwd"] {
            let outside = nothing.replace("{}", &format!(r#"{{"x": {{"path": "{path}"}}}}"#));
            assert!(matches!(open(&outside), Err(PackageError::Outside { item, .. }) if item == path));
        }
        let directory = nothing.replace("{}", r#"{"x": {"path": "model.mlmodel"}}"#);
        fs::create_dir_all(dir.path().join("Data/model.mlmodel")).unwrap();
        let model = open(&directory).unwrap().model();
        assert!(matches!(model, Err(PackageError::NotAFile { .. })));
        assert!(matches!(Package::open(dir.path().join("absent")), Err(PackageError::Io(_))));
    }
}
