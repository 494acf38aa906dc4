//! Apple's compiled programs, read back. The pairs of package and compiled model lie outside of the repository.

#![allow(clippy::print_stderr)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use anepipe_mil::modelc::ModelC;
use anepipe_mil::text;

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
