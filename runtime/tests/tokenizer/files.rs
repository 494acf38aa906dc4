//! Where vocabularies come from, and how they become a bundle's `tokenizer.json`.

use std::path::{Path, PathBuf};

use anepipe_gguf::{Array, Gguf, Value};
use anepipe_runtime::tokenizer::{Encode, Tokenizer};
use serde_json::json;

/// As tests without a word about it want it.
pub(crate) const PLAIN: Encode = Encode { parse_special: false, add_special: false };

/// The file `name` under `$ANEPIPE_SHARED` (`../shared` beside the workspace without it), or `None` and a line that
/// says so.
#[allow(clippy::print_stderr)] // a skipped test says that it is skipped
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ANEPIPE_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = root.join(name);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: {} absent", path.display());
    None
}

/// The tokenizer of a GGUF file, by way of the file that a bundle has.
pub(crate) fn of_gguf(path: &Path) -> Tokenizer {
    of_metadata(&metadata(path))
}

/// The `tokenizer.` keys of a GGUF file.
pub(crate) fn metadata(path: &Path) -> serde_json::Value {
    let gguf = Gguf::open(path).expect("a GGUF file");
    let keys = gguf.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer."));
    keys.map(|(key, value)| (key.to_owned(), json_of(value))).collect::<serde_json::Map<_, _>>().into()
}

/// The tokenizer of a bundle whose `tokenizer.json` has these keys.
pub(crate) fn of_metadata(metadata: &serde_json::Value) -> Tokenizer {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    let file = json!({"schema": 1, "metadata": metadata});
    std::fs::write(&path, serde_json::to_vec(&file).expect("JSON")).expect("a written file");
    Tokenizer::read(&path).expect("a tokenizer")
}

fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::U32(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(v),
        Value::Array(Array::String(v)) => v.iter().collect(),
        Value::Array(Array::F32(v)) => json!(v),
        Value::Array(Array::I32(v)) => json!(v),
        other => panic!("no test file has {other:?} among its tokenizer's keys"),
    }
}
