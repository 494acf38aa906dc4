//! Graphs end to end: the stage in Rust, the worker, coremltools.
#![cfg(target_os = "linux")]

mod python;

use std::path::Path;
use std::process::Command;

use anepipe_pipeline::python::{COREMLTOOLS, Lookup, PythonEnvironment, PythonError, Worker};
use anepipe_pipeline::stages::graph::{
    self, BLOBS_FILE, BlobTable, Fault, GraphError, GraphSpec, HeadSpec, LayersSpec, MODEL_FILE, Storage,
    Style,
};
use anepipe_pipeline::topology::{OUTPUT_NORM_OPS, layer_ops};
use python::{environment, options, phi4_mini, tiny, tiny_layers, worker};

fn head() -> GraphSpec {
    GraphSpec::LmHead(HeadSpec {
        style: Style::Stateful,
        widths: vec![4],
        hidden: 3072,
        quantization: Storage::Int8,
        rows: 50016,
    })
}

fn digest(folder: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    for name in [MODEL_FILE, BLOBS_FILE] {
        hasher.update(&std::fs::read(folder.join(name)).unwrap());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The digests were written down on another day, by another process. If one changes, so do the bytes of every bundle:
/// change it only with the reason in the changelog, and raise `graph::CODE_VERSION`.
#[test]
fn graphs_are_the_same_bytes_every_day_and_every_time() {
    let goldens = [
        ("layer", GraphSpec::Layers(phi4_mini()), "0d490ffead8c799f"),
        ("head", head(), "4744cf8ca732d77e"),
        (
            "both widths",
            GraphSpec::Layers(LayersSpec { widths: vec![1, 4], ..tiny_layers() }),
            "494019436c6b6cb2",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker();
    // Twice in one process, the second time after other graphs.
    for round in 0..2 {
        for (name, spec, golden) in &goldens {
            let out_dir = folder.path().join(format!("{name} {round}"));
            graph::run(&mut worker, spec, &out_dir).unwrap();
            assert_eq!(digest(&out_dir), *golden, "{name}, round {round}");
        }
    }
}

#[test]
fn a_shard_of_twenty_layers_costs_kilobytes() {
    let spec = GraphSpec::Layers(LayersSpec { layers: 20, output_norm: true, ..phi4_mini() });
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker();
    let report = graph::run(&mut worker, &spec, folder.path()).unwrap();
    assert_eq!((report.functions[0].convs, report.blobs), (80, 201));
    assert!(report.weight_bytes > 2_000_000_000);
    let on_disk: u64 =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk < 1 << 20, "{on_disk} bytes on disk");
    // Importing coremltools takes most of it.
    let peak = worker.peak_memory().unwrap();
    assert!(peak < 200 << 20, "{peak} bytes of memory");
    assert_eq!(BlobTable::read(&folder.path().join(BLOBS_FILE)).unwrap().blobs().len(), 201);
}

#[test]
fn a_report_counts_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker();
    for (spec, ops, convs, blobs) in [
        (tiny_layers(), 84, 4, 10),
        (LayersSpec { output_norm: true, ..tiny_layers() }, 97, 4, 11),
        (LayersSpec { qkv_bias: true, ..tiny_layers() }, 84, 4, 11),
        (LayersSpec { quantization: Storage::F16, ..tiny_layers() }, 84, 4, 6),
        (LayersSpec { fault: Some(Fault::NoPermute), ..tiny_layers() }, 83, 4, 10),
        (LayersSpec { layers: 3, ..tiny_layers() }, 248, 12, 30),
    ] {
        let report = graph::run(&mut worker, &GraphSpec::Layers(spec.clone()), folder.path()).unwrap();
        let function = &report.functions[0];
        assert_eq!((function.name.as_str(), function.width), ("main", 4));
        assert_eq!((function.ops, function.convs, report.blobs), (ops, convs, blobs), "{spec:?}");
        // What the cut into shards reckons with is never less.
        let norm = if spec.output_norm { OUTPUT_NORM_OPS } else { 0 };
        let reckoned = u64::from(spec.layers) * layer_ops(spec.kv_heads) + norm;
        assert!(ops as u64 <= reckoned, "{spec:?}: {ops} operations, {reckoned} reckoned with");
        assert_eq!(report.versions.coremltools, COREMLTOOLS);
    }
}

#[test]
fn a_spec_that_no_graph_can_have_is_refused_before_python_sees_it() {
    let mut worker = worker();
    let folder = tempfile::tempdir().unwrap();
    for (spec, message) in [
        (LayersSpec { kv_heads: 3, ..tiny_layers() }, "4 heads cannot share 3 KV heads evenly"),
        (LayersSpec { kv_heads: 0, ..tiny_layers() }, "4 heads cannot share 0 KV heads evenly"),
        (
            LayersSpec { rope_dim: 18, ..tiny_layers() },
            "rope_dim must be even and at most head_dim 16, not 18",
        ),
        (
            LayersSpec { widths: vec![4, 4], ..tiny_layers() },
            "the widths must be different positive integers",
        ),
        (LayersSpec { widths: vec![], ..tiny_layers() }, "the widths must be different positive integers"),
        (LayersSpec { widths: vec![40], ..tiny_layers() }, "a block of 40 exceeds the context of 32"),
        (LayersSpec { hidden: 0, ..tiny_layers() }, "hidden must be from 1 to 16777216"),
        (LayersSpec { norm_eps: f64::NAN, ..tiny_layers() }, "norm_eps must be a number above zero, not NaN"),
    ] {
        let error = graph::run(&mut worker, &GraphSpec::Layers(spec), folder.path()).unwrap_err();
        assert!(matches!(error, GraphError::Spec(_)) && error.to_string().contains(message), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_spec_in_json_has_every_field_and_no_other() {
    for spec in [tiny(), head()] {
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(serde_json::from_value::<GraphSpec>(json.clone()).unwrap(), spec);
        let mut more = json.clone();
        more["colour"] = 1.into();
        assert!(serde_json::from_value::<GraphSpec>(more).unwrap_err().to_string().contains("colour"));
        for name in json.as_object().unwrap().keys().filter(|name| *name != "fault") {
            let mut less = json.clone();
            less.as_object_mut().unwrap().remove(name);
            let error = serde_json::from_value::<GraphSpec>(less).unwrap_err();
            assert!(error.to_string().contains(name.as_str()), "{name}: {error}");
        }
    }
}

#[test]
fn an_installation_without_a_working_coremltools_is_told_apart_from_a_failing_stage() {
    // The folder names say that all is there; the packages are not. Only Python itself can notice.
    let folder = tempfile::tempdir().unwrap();
    let version = environment().fingerprint().python;
    let site = folder.path().join(format!("lib/python{}.{}/site-packages", version.major, version.minor));
    for name in ["coremltools-9.0.dist-info", "numpy-2.2.6.dist-info", "protobuf-7.36.2.dist-info"] {
        std::fs::create_dir_all(site.join(name)).unwrap();
    }
    let lookup = Lookup { variable: Some(folder.path().to_owned()), ..Lookup::default() };
    let hollow = PythonEnvironment::resolve(&lookup).unwrap();
    let mut worker = Worker::spawn_with(&hollow, options()).unwrap();
    let error = graph::run(&mut worker, &tiny(), &folder.path().join("out")).unwrap_err();
    let GraphError::Python(error) = error else { panic!("{error}") };
    assert!(matches!(error, PythonError::Import { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("No module named '") && text.contains("make setup"), "{text}");
    assert_eq!(error.exit_code(), 30);
}

#[test]
fn the_python_sources_pass_their_own_tests() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
    let output = Command::new(environment().root().join("bin/python"))
        .args(["-B", "-m", "unittest", "discover"])
        .current_dir(sources)
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    assert!(report.contains("Ran 17 tests"), "{report}");
}
