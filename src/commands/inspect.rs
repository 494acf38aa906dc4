//! `anepipe inspect`: any file of a build, in words.

use std::fmt::Write as _;
use std::path::Path;

use anepipe_gguf::Gguf;
use anepipe_mil::modelc::ModelC;
use anepipe_mil::package::Package;
use anepipe_mil::program::Program;
use anepipe_pipeline::error::StageError;
use anepipe_pipeline::tensors::TensorFile;
use anepipe_runtime::bundle::manifest::Role;
use anepipe_runtime::bundle::{Bundle, BundleError, MANIFEST_FILE};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::cli::Inspect;
use crate::exit::{Exit, Failed};
use crate::output::Output;

/// A description as data and as words.
struct Description {
    data: Value,
    words: String,
}

pub(crate) fn run(arguments: &Inspect, output: Output) -> anyhow::Result<Exit> {
    let path = &arguments.file;
    let extension = kind_of(path);
    if arguments.mil {
        crate::output::text(&mil_text(path, extension)?)?;
        return Ok(Exit::Ok);
    }
    let description = match extension {
        "safetensors" => safetensors(path)?,
        "mlpackage" => program("ML Program package", &Package::open(path)?.model()?.program),
        "mlmodelc" => program("compiled ML Program", ModelC::open(path)?.program()),
        _ if path.join(MANIFEST_FILE).is_file() => bundle(path)?,
        _ if path.is_dir() => {
            let path = path.display();
            let message =
                format!("inspecting {path}: it is a folder, but not a bundle, .mlpackage or .mlmodelc");
            return Err(Failed::bad_input(message).into());
        }
        _ => gguf(path)?,
    };
    output.result(&description.data, || description.words)?;
    Ok(Exit::Ok)
}

/// The extension that says what `path` is; folders are known by what is in them, whatever they are called.
fn kind_of(path: &Path) -> &str {
    if path.join("Manifest.json").is_file() {
        return "mlpackage";
    }
    if path.join("coremldata.bin").is_file() {
        return "mlmodelc";
    }
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn mil_text(path: &Path, extension: &str) -> anyhow::Result<String> {
    match extension {
        "mlmodelc" => Ok(fs_err::read_to_string(path.join("model.mil"))?),
        "mlpackage" => {
            let model = Package::open(path)?.model()?;
            let dialect = anepipe_mil::text::Dialect::of_specification(model.specification_version);
            Ok(anepipe_mil::text::print(&model.program, dialect)?)
        }
        _ => {
            Err(Failed::usage(format!("{}: --mil prints .mlpackage and .mlmodelc only", path.display()))
                .into())
        }
    }
}

fn gguf(path: &Path) -> anyhow::Result<Description> {
    let gguf = Gguf::open(path).map_err(StageError::from)?;
    let mut words = format!("GGUF v{}, {} tensors\n", gguf.version(), gguf.tensors().len());
    let mut metadata = serde_json::Map::new();
    for (key, value) in gguf.metadata().iter() {
        let text = value.to_string();
        // Writing to a string cannot fail.
        let _ = writeln!(words, "  {key} = {text}");
        metadata.insert(key.to_owned(), text.into());
    }
    let mut tensors = Vec::new();
    for tensor in gguf.tensors() {
        let (name, dtype, shape) = (tensor.name(), tensor.dtype().to_string(), tensor.shape());
        let bytes = tensor.bytes().len() as u64;
        let _ = writeln!(words, "  {name}: {dtype} {shape:?}, {}", HumanBytes(bytes));
        tensors.push(json!({"name": name, "type": dtype, "shape": shape, "bytes": bytes}));
    }
    let data = json!({"schema": 1, "kind": "gguf", "version": gguf.version(), "metadata": metadata, "tensors": tensors});
    Ok(Description { data, words })
}

fn safetensors(path: &Path) -> anyhow::Result<Description> {
    let file = TensorFile::open(path).map_err(StageError::from)?;
    let mut words = "safetensors\n".to_owned();
    let mut tensors = Vec::new();
    for name in file.names() {
        let tensor = file.tensor(&name).map_err(StageError::from)?;
        let (dtype, shape, bytes) = (tensor.dtype().to_string(), tensor.shape().to_vec(), tensor.bytes());
        let _ = writeln!(words, "  {name}: {dtype} {shape:?}, {}", HumanBytes(bytes));
        tensors.push(json!({"name": name, "type": dtype, "shape": shape, "bytes": bytes}));
    }
    Ok(Description { data: json!({"schema": 1, "kind": "safetensors", "tensors": tensors}), words })
}

fn program(kind: &str, program: &Program) -> Description {
    let summary = program.summary();
    let mut words = format!("{kind}\n");
    let mut functions = serde_json::Map::new();
    for (name, function) in &summary.functions {
        let _ = writeln!(words, "  function {name} ({})", function.opset);
        let mut ports = serde_json::Map::new();
        for (role, named) in
            [("input", &function.inputs), ("state", &function.states), ("output", &function.outputs)]
        {
            for port in named {
                let _ = writeln!(words, "    {role} {}: {}", port.name, port.ty);
            }
            let list =
                named.iter().map(|port| json!({"name": port.name, "type": port.ty.to_string()})).collect();
            ports.insert(format!("{role}s"), Value::Array(list));
        }
        let total: u64 = function.operations.values().sum();
        let kinds: Vec<String> =
            function.operations.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let _ = writeln!(words, "    {total} operations: {}", kinds.join(", "));
        ports.insert("opset".to_owned(), function.opset.clone().into());
        ports.insert("operations".to_owned(), json!(function.operations));
        functions.insert(name.clone(), Value::Object(ports));
    }
    let mut weights = serde_json::Map::new();
    for (dtype, weight) in &summary.weights {
        let _ = writeln!(words, "  weights {dtype}: {} blobs, {}", weight.blobs, HumanBytes(weight.bytes));
        weights.insert(dtype.to_string(), json!({"blobs": weight.blobs, "bytes": weight.bytes}));
    }
    Description {
        data: json!({"schema": 1, "kind": kind, "functions": functions, "weights": weights}),
        words,
    }
}

fn bundle(path: &Path) -> anyhow::Result<Description> {
    let bundle = Bundle::open(path)?;
    let manifest = bundle.manifest();
    let mut words = format!(
        "bundle, every file as its manifest says\n  block {}, context {}, {}, style {}\n",
        manifest.block, manifest.context, manifest.quantization, manifest.style
    );
    for shard in &manifest.shards {
        let [start, end] = shard.range;
        let what = match shard.role {
            Role::Layers => "layers",
            Role::LmHead => "lm_head",
        };
        let states = shard.states.len();
        let _ = writeln!(words, "  shard {}: {what} {start}..{end}, {states} states", shard.path);
    }
    for (what, path) in [("embedding", &manifest.embedding), ("tokenizer", &manifest.tokenizer)] {
        if let Some(path) = path {
            let size = manifest.files.get(path).map_or(0, |file| file.size);
            let _ = writeln!(words, "  {what} {path}, {}", HumanBytes(size));
        }
    }
    match bundle.parts() {
        Ok(_) => words.push_str("  a whole model: it can be decoded with\n"),
        Err(BundleError::Partial { lacks, .. }) => {
            let _ = writeln!(words, "  a part of a model: {lacks} are not in it");
        }
        Err(error) => return Err(error.into()),
    }
    for gate in &manifest.gates {
        let verdict = if gate.pass { "passed" } else { "did not pass" };
        let what = gate.shard.as_deref().unwrap_or("the bundle");
        let _ = writeln!(words, "  gate {} on {what}: {verdict}, {}", gate.kind, gate.source);
    }
    let data = json!({"schema": 1, "kind": "bundle", "manifest": manifest});
    Ok(Description { data, words })
}
