//! Caches to test with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anepipe_artifacts::{ActionRecord, Artifact, Key, KeyManifest, Store};
use tempfile::TempDir;

/// A cache in a directory of its own, and room beside it.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(self.cache()).unwrap()
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// An action `n` of a stage, and its key.
pub(crate) fn action(n: usize) -> (KeyManifest, Key) {
    let manifest = KeyManifest::new("stage", 1).parameter("n", n);
    let key = manifest.key();
    (manifest, key)
}

/// Records action `n` with these outputs.
pub(crate) fn record(store: &Store, n: usize, outputs: &[(&str, Artifact)]) -> Key {
    let (manifest, key) = action(n);
    let outputs: BTreeMap<_, _> =
        outputs.iter().map(|(name, artifact)| ((*name).to_owned(), *artifact)).collect();
    let record = ActionRecord::new(&manifest, format!("subject {n}"), outputs, Duration::from_millis(5));
    store.record(&key, &record).unwrap();
    key
}

/// Records action `n` with one small output.
pub(crate) fn run(store: &Store, n: usize) -> (Key, Artifact) {
    let artifact = store.put_bytes(format!("output {n}").as_bytes()).unwrap();
    (record(store, n, &[("out", artifact)]), artifact)
}

/// Makes a file look as if nobody had touched it since it was stored, whatever was done to it.
pub(crate) fn forge_time(path: &std::path::Path, like: &std::path::Path) {
    let time = std::fs::metadata(like).unwrap().modified().unwrap();
    std::fs::File::open(path).unwrap().set_times(std::fs::FileTimes::new().set_modified(time)).unwrap();
}
