//! Apple's compiled programs, read back. The pairs of package and compiled model lie outside of the repository.

#![allow(clippy::print_stderr)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anepipe_mil::compile::{CompileOptions, CompilerVersions, compile};
use anepipe_mil::modelc::ModelC;
use anepipe_mil::proto::ModelSpec;
use anepipe_mil::text;
use coreml_proto::proto::ModelDescription;
use prost::Message as _;
use serde_json::Value;

/// Directories that hold a `mlpackage` and the `mlmodelc` Apple's compiler made of it; none, with a word, if absent.
fn pairs() -> Vec<PathBuf> {
    let shared = std::env::var_os("ANEPIPE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from);
    let folder = shared.join("coreml-pairs");
    let Ok(entries) = fs_err::read_dir(&folder) else {
        eprintln!("skipped: {} absent", folder.display());
        return Vec::new();
    };
    let mut pairs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    pairs.sort();
    assert!(!pairs.is_empty(), "{} is empty", folder.display());
    pairs
}

#[test]
fn every_compiled_model_opens_with_its_weights() {
    for pair in pairs() {
        let model = ModelC::open(pair.join("mlmodelc")).unwrap();
        let main = &model.program().functions["main"];
        assert_eq!(main.inputs.len(), 3);
        assert_eq!(main.block.outputs, ["vad_output", "new_hidden_state", "new_cell_state"]);
        let blobs = main.block.operations.iter().flat_map(|op| op.attributes.values());
        // Equal constants share a blob.
        let found: BTreeSet<_> =
            blobs.filter_map(|value| model.blob(value).unwrap()).map(|blob| blob.data.as_ptr()).collect();
        assert_eq!(found.len() as u32, model.weights()["@model_path/weights/weight.bin"].count());
    }
}

#[test]
fn every_compiled_program_prints_as_it_was() {
    for pair in pairs() {
        let expected = fs_err::read_to_string(pair.join("mlmodelc/model.mil")).unwrap();
        let (dialect, program) = text::parse(&expected).unwrap();
        assert!(text::print(&program, dialect).unwrap() == expected, "{} differs", pair.display());
    }
}

#[test]
fn every_package_holds_the_program_its_compiled_form_holds() {
    for pair in pairs() {
        let bytes = fs_err::read(pair.join("mlpackage/Data/com.apple.CoreML/model.mlmodel")).unwrap();
        let mut program = ModelSpec::decode(&bytes).unwrap().program;
        let compiled = ModelC::open(pair.join("mlmodelc")).unwrap().program().clone();
        for function in program.functions.values_mut() {
            function.inputs.sort_by(|a, b| a.name.cmp(&b.name));
        }
        assert!(program.functions == compiled.functions, "{} differs", pair.display());
    }
}

/// The compiler versions that a compiled program names.
fn versions(mil: &str) -> CompilerVersions {
    let entry = |key: &str| {
        let start = mil.find(&format!("{{\"{key}\", \"")).unwrap() + key.len() + 6;
        mil[start..].split('"').next().unwrap().to_owned()
    };
    CompilerVersions { mil: entry("coremlc-component-MIL"), coremlc: entry("coremlc-version") }
}

/// Splits a `coremldata.bin` into what stands before the description, the description, and what stands behind.
fn split(bytes: &[u8]) -> (&[u8], ModelDescription, &[u8]) {
    let (head, rest) = bytes.split_at(0x53);
    let length = u64::from_le_bytes(head[0x4b..].try_into().unwrap());
    let (description, tail) = rest.split_at(length as usize);
    (head, ModelDescription::decode(description).unwrap(), tail)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

#[test]
fn every_package_compiles_to_what_apple_made_of_it() {
    for pair in pairs() {
        let expected = pair.join("mlmodelc");
        let read = |path: &str| fs_err::read(expected.join(path)).unwrap();
        let class =
            json(&expected.join("metadata.json"))[0]["generatedClassName"].as_str().unwrap().to_owned();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join(class + ".mlmodelc");
        let mil = String::from_utf8(read("model.mil")).unwrap();
        let options = CompileOptions { versions: versions(&mil), ..CompileOptions::default() };
        let report = compile(pair.join("mlpackage"), &out, &options).unwrap();

        let mut files = BTreeSet::new();
        for path in report.files.keys() {
            files.insert(path.to_str().unwrap());
            let found = fs_err::read(out.join(path)).unwrap();
            assert_eq!(found.len() as u64, report.files[path]);
            match path.to_str().unwrap() {
                // Apple's own output orders maps differently from run to run.
                "coremldata.bin" => assert_eq!(split(&found), split(&read("coremldata.bin"))),
                "metadata.json" => assert_eq!(json(&out.join(path)), json(&expected.join(path))),
                path => assert!(found == read(path), "{} differs in {path}", pair.display()),
            }
        }
        let all = [
            "analytics/coremldata.bin",
            "coremldata.bin",
            "metadata.json",
            "model.mil",
            "weights/weight.bin",
        ];
        assert!(files.iter().eq(&all), "{files:?}");
    }
}
