//! A model in memory that tests can change: one key or tensor at a time, weights as f32.

use std::path::{Path, PathBuf};

use anepipe_gguf::{Gguf, Value as Read};
use anepipe_testkit::{GgufWriter, Value};

/// The numbers and weights of a model file; its tokenizer is left behind.
#[derive(Debug, Clone)]
pub(super) struct Edited {
    keys: Vec<(String, Value)>,
    tensors: Vec<Weights>,
}

/// A tensor as it is written.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    pub(super) name: String,
    /// Fastest first.
    pub(super) dims: Vec<u64>,
    pub(super) values: Vec<f32>,
}

impl Edited {
    pub(super) fn read(path: &Path) -> Self {
        let gguf = Gguf::open(path).unwrap();
        let architecture = gguf.metadata().string("general.architecture").unwrap();
        let prefix = format!("{architecture}.");
        let keys = gguf
            .metadata()
            .iter()
            .filter(|(key, _)| *key == "general.architecture" || key.starts_with(&prefix))
            .map(|(key, value)| (key.to_owned(), written(value)))
            .collect();
        let tensors = gguf.tensors().map(|tensor| {
            let mut values = vec![0.0; tensor.len() as usize];
            tensor.dequantize_rows_f32(0..tensor.rows(), &mut values).unwrap();
            Weights { name: tensor.name().to_owned(), dims: tensor.dims().to_vec(), values }
        });
        Self { keys, tensors: tensors.collect() }
    }

    /// The demo model.
    pub(super) fn demo() -> Self {
        Self::read(&demo_path())
    }

    pub(super) fn gguf(&self) -> Gguf {
        let mut writer = GgufWriter::new();
        for (key, value) in &self.keys {
            writer = writer.meta(key, value.clone());
        }
        for tensor in &self.tensors {
            writer = writer.f32(&tensor.name, &tensor.dims, &tensor.values);
        }
        Gguf::from_bytes("edited.gguf", writer.to_bytes()).unwrap()
    }

    pub(super) fn key(&self, name: &str) -> Option<&Value> {
        self.keys.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(super) fn u32(&self, name: &str) -> u32 {
        match self.key(name) {
            Some(Value::U32(value)) => *value,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(super) fn with_key(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.keys.retain(|(key, _)| key != name);
        self.keys.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn without_key(mut self, name: &str) -> Self {
        self.keys.retain(|(key, _)| key != name);
        self
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&Weights> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Changes every tensor; those of one dimension are norms and factors.
    pub(super) fn each(mut self, change: impl Fn(&mut Weights)) -> Self {
        self.tensors.iter_mut().for_each(change);
        self
    }

    pub(super) fn with_tensor(mut self, name: &str, dims: &[u64], values: Vec<f32>) -> Self {
        let tensor = Weights { name: name.to_owned(), dims: dims.to_vec(), values };
        match self.tensors.iter_mut().find(|tensor| tensor.name == name) {
            Some(old) => *old = tensor,
            None => self.tensors.push(tensor),
        }
        self
    }

    pub(super) fn without_tensor(mut self, name: &str) -> Self {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }
}

pub(super) fn demo_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/anepipe-demo-q8_0.gguf")
}

/// The file `name` among shared models, or `None` and a line that says so.
#[allow(clippy::print_stderr)] // a skipped test says that it is skipped
pub(super) fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ANEPIPE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = root.join("models").join(name);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: {name} is absent; set ANEPIPE_SHARED to the folder of shared models");
    None
}

fn written(value: &Read) -> Value {
    match value {
        Read::F32(value) => Value::F32(*value),
        Read::Bool(value) => Value::Bool(*value),
        Read::String(value) => Value::String(value.to_string()),
        other => Value::U32(other.as_integer().unwrap().try_into().unwrap()),
    }
}
