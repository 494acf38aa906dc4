//! Programs that coremltools made (`fixtures/make.py`): states, several functions, control flow, packed integers.
//! Apple's compiled form of these is not at hand; the compiled form must at least hold the program the package holds.

use std::path::PathBuf;

use anepipe_mil::blob::{WeightFile, WeightLayout, WeightWriter};
use anepipe_mil::compile::{CompileOptions, WeightPlacement, compile};
use anepipe_mil::modelc::ModelC;
use anepipe_mil::package::Package;
use anepipe_mil::program::{Argument, DataType, Literal, Program, ValueType};
use anepipe_mil::text;

const MODELS: [&str; 4] = ["stateful", "control_flow", "packed", "several_functions"];

fn fixture(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(path)
}

fn model(name: &str) -> PathBuf {
    fixture(name).join("model.mlmodel")
}

/// The program of a package as its compiled form has it: parameters sorted by name.
fn program(name: &str) -> Program {
    let mut program = Package::open(model(name)).unwrap().model().unwrap().program;
    for function in program.functions.values_mut() {
        function.inputs.sort_by(|a, b| a.name.cmp(&b.name));
    }
    program
}

#[test]
fn the_compiled_form_holds_the_program_of_the_package() {
    let dir = tempfile::tempdir().unwrap();
    for name in MODELS {
        let out = dir.path().join(format!("{name}.mlmodelc"));
        compile(model(name), &out, &CompileOptions::default()).unwrap();
        let compiled = ModelC::open(&out).unwrap();
        assert_eq!(compiled.program().functions, program(name).functions, "{name}");
        let text = fs_err::read_to_string(out.join("model.mil")).unwrap();
        assert_eq!(text::print(compiled.program(), compiled.dialect()).unwrap(), text);
    }
}

#[test]
fn text_of_programs_with_states_and_blocks() {
    let dir = tempfile::tempdir().unwrap();
    for name in MODELS {
        let out = dir.path().join(format!("{name}.mlmodelc"));
        compile(model(name), &out, &CompileOptions::default()).unwrap();
        let text = fs_err::read_to_string(out.join("model.mil")).unwrap();
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn several_functions_share_a_weight_file() {
    let program = program("several_functions");
    assert_eq!(program.functions.keys().collect::<Vec<_>>(), ["decode", "prefill"]);
    let weights = WeightFile::open(fixture("several_functions/weights/weight.bin")).unwrap();
    assert_eq!(weights.count(), 1);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.mlmodelc");
    compile(model("several_functions"), &out, &CompileOptions::default()).unwrap();
    let metadata = fs_err::read(out.join("metadata.json")).unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
    assert_eq!(metadata[0]["defaultFunctionName"], "prefill");
    assert_eq!(metadata[0]["functions"].as_array().unwrap().len(), 2);
}

#[test]
fn metadata_tells_how_weights_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    for (name, storage, compute) in [
        ("stateful", Some("Int8"), "Mixed (Float16, Int32)"),
        ("packed", Some("Mixed (Int4, Palettized (3 bits))"), "Float16"),
        ("several_functions", Some("Float32"), "Float32"),
        ("control_flow", None, "Mixed (Float32, Int32)"),
    ] {
        let out = dir.path().join(format!("{name}.mlmodelc"));
        compile(model(name), &out, &CompileOptions::default()).unwrap();
        let metadata = fs_err::read(out.join("metadata.json")).unwrap();
        let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
        assert_eq!(metadata[0]["storagePrecision"].as_str(), storage, "{name}");
        assert_eq!(metadata[0]["computePrecision"], compute, "{name}");
    }
}

#[test]
fn packed_integers_are_read_inline_and_from_the_weight_file() {
    let program = program("packed");
    let weights = WeightFile::open(fixture("packed/weights/weight.bin")).unwrap();
    let operations = &program.functions["main"].block.operations;
    let data = |index: usize| {
        let scaled =
            operations.iter().filter(|op| op.kind == "constexpr_blockwise_shift_scale").nth(index).unwrap();
        match scaled.inputs["data"].as_slice() {
            [Argument::Value(value)] => value.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(data(0).literal, Literal::Int(vec![-8, 7, -1, 0, 1, 2]));
    let large = data(1);
    let Literal::Blob { offset, .. } = large.literal else { panic!("{large:?}") };
    assert_eq!(large.ty, ValueType::tensor(DataType::Int4, &[5, 6]));
    let blob = weights.tensor(offset, &large.ty).unwrap();
    // -8, -7, -6, … from the lower half of each byte up.
    assert_eq!(blob.data[..2], [0x98, 0xba]);
    assert_eq!(blob.data.len(), 15);
}

/// The same blobs through this crate's writer, in another order, give the bytes of coremltools' writer.
#[test]
fn the_weight_writer_writes_what_coremltools_writes() {
    let expected = fixture("blobs.bin");
    let source = WeightFile::open(&expected).unwrap();
    let blobs: Vec<_> = source.blobs().map(|blob| blob.unwrap().1).collect();
    assert_eq!(blobs.len(), 14);
    let tensors = blobs.iter().enumerate().map(|(index, blob)| {
        let bits = blob.data.len() as u64 * 8 - u64::from(blob.unused_bits);
        (format!("blob{index}"), blob.dtype, vec![bits / u64::from(blob.dtype.bits().unwrap())])
    });
    let layout = WeightLayout::packed(tensors).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weight.bin");
    let mut writer = WeightWriter::create(&path, &layout).unwrap();
    for (index, blob) in blobs.iter().enumerate().rev() {
        writer.write_blob(index, blob.data).unwrap();
    }
    writer.finish().unwrap();
    assert!(fs_err::read(path).unwrap() == fs_err::read(expected).unwrap());
}

#[cfg(unix)]
#[test]
fn weights_are_hard_linked_on_request() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let package = dir.path().join("package");
    fs_err::create_dir_all(package.join("weights")).unwrap();
    for file in ["model.mlmodel", "weights/weight.bin"] {
        fs_err::copy(fixture("stateful").join(file), package.join(file)).unwrap();
    }
    let inode = |path: PathBuf| fs_err::metadata(path).unwrap().ino();
    for (placement, linked) in [(WeightPlacement::HardLink, 1), (WeightPlacement::Copy, 0)] {
        let out = dir.path().join("m.mlmodelc");
        let options = CompileOptions { weights: placement, ..CompileOptions::default() };
        let report = compile(package.join("model.mlmodel"), &out, &options).unwrap();
        assert_eq!(report.hard_linked, linked);
        let same = inode(out.join("weights/weight.bin")) == inode(package.join("weights/weight.bin"));
        assert_eq!(same, linked == 1);
    }
}
