//! Workers and graphs for tests.
#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anepipe_pipeline::python::{Lookup, PythonEnvironment, Worker, WorkerOptions};
use anepipe_pipeline::stages::graph::{self, GraphReport, GraphSpec, LayersSpec, Storage, Style};
use serde_json::{Value, json};

/// The worker alone.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_anepipe-python-worker");

/// The environment of the workspace, as a build would find it.
pub(crate) fn environment() -> PythonEnvironment {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    PythonEnvironment::resolve(&Lookup::of_process(None, Some(&workspace)))
        .unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn options() -> WorkerOptions {
    WorkerOptions { program: Some(PROGRAM.into()), arguments: Vec::new(), ..WorkerOptions::default() }
}

pub(crate) fn worker() -> Worker {
    Worker::spawn_with(&environment(), options()).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn is_alive(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

/// Requests as they stand on the pipe.
pub(crate) fn frames(requests: &[Value]) -> Vec<u8> {
    requests
        .iter()
        .flat_map(|request| {
            let text = request.to_string();
            [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
        })
        .collect()
}

/// Sends requests to a worker that is run by hand and returns its answers; the worker then ends by itself.
pub(crate) fn converse(command: &mut Command, requests: &[Value]) -> Vec<Value> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    stdin.write_all(&frames(requests)).unwrap();
    let answers = requests
        .iter()
        .map(|_| {
            let mut length = [0; 4];
            stdout.read_exact(&mut length).unwrap();
            let mut text = vec![0; u32::from_le_bytes(length) as usize];
            stdout.read_exact(&mut text).unwrap();
            serde_json::from_slice(&text).unwrap()
        })
        .collect();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    answers
}

/// The parameters that start Python in a worker that is run by hand.
pub(crate) fn start_params() -> Value {
    let environment = environment();
    json!({ "home": environment.home(), "site_packages": environment.site_packages() })
}

/// One layer of Phi-4-mini's shape.
pub(crate) fn phi4_mini() -> LayersSpec {
    LayersSpec {
        style: Style::Stateful,
        widths: vec![4],
        hidden: 3072,
        heads: 24,
        kv_heads: 8,
        head_dim: 128,
        ffn: 8192,
        rope_dim: 96,
        norm_eps: 1e-5,
        context: 2048,
        layers: 1,
        quantization: Storage::Int8,
        output_norm: false,
        qkv_bias: false,
        fault: None,
    }
}

/// One small layer with a partial rotary width and shared KV heads.
pub(crate) fn tiny_layers() -> LayersSpec {
    LayersSpec {
        hidden: 64,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn: 96,
        rope_dim: 12,
        context: 32,
        ..phi4_mini()
    }
}

pub(crate) fn tiny() -> GraphSpec {
    GraphSpec::Layers(tiny_layers())
}

/// A call that takes several seconds.
pub(crate) fn slow_graph() -> Value {
    let spec = GraphSpec::Layers(LayersSpec { layers: 300, ..phi4_mini() });
    json!({ "spec": spec, "out_dir": std::env::temp_dir() })
}

/// Builds a graph in a worker of its own.
pub(crate) fn build(spec: &GraphSpec, out_dir: &Path) -> GraphReport {
    graph::run(&mut worker(), spec, out_dir).unwrap_or_else(|error| panic!("{error}"))
}
