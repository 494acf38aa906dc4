//! What the compiler refuses, what it leaves behind when it does, and ranges of sizes.

use std::path::{Path, PathBuf};

use anepipe_mil::compile::{CompileErrorKind, CompileOptions, compile};
use coreml_proto::proto as pb;
use pb::array_feature_type::{EnumeratedShapes, ShapeFlexibility, ShapeRange};
use pb::feature_type::Type;
use prost::Message as _;

fn fixture(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(path)
}

/// The model `name`, changed by `change`, and its weights, in a directory of their own.
fn changed(name: &str, change: impl FnOnce(&mut pb::Model)) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs_err::read(fixture(name).join("model.mlmodel")).unwrap();
    let mut model = pb::Model::decode(bytes.as_slice()).unwrap();
    change(&mut model);
    let path = dir.path().join("model.mlmodel");
    fs_err::write(&path, model.encode_to_vec()).unwrap();
    let weights = fixture(name).join("weights/weight.bin");
    if weights.exists() {
        fs_err::create_dir(dir.path().join("weights")).unwrap();
        fs_err::copy(weights, dir.path().join("weights/weight.bin")).unwrap();
    }
    (dir, path)
}

fn refusal(model: &Path) -> String {
    let out = model.with_extension("mlmodelc");
    let error = compile(model, &out, &CompileOptions::default()).unwrap_err();
    assert!(!out.exists());
    let leftovers = fs_err::read_dir(model.parent().unwrap()).unwrap();
    let leftovers: Vec<_> =
        leftovers.map(|entry| entry.unwrap().file_name()).filter(|name| name != "weights").collect();
    assert_eq!(leftovers, ["model.mlmodel"]);
    let message = error.to_string();
    let prefix = format!("compiling {}: ", model.display());
    message.strip_prefix(&prefix).unwrap_or_else(|| panic!("{message}")).to_owned()
}

fn array(feature: &mut pb::FeatureDescription) -> &mut pb::ArrayFeatureType {
    match feature.r#type.as_mut().and_then(|ty| ty.r#type.as_mut()) {
        Some(Type::MultiArrayType(array)) => array,
        other => panic!("{other:?}"),
    }
}

fn ranges(bounds: &[(u64, i64)]) -> ShapeFlexibility {
    let size_ranges =
        bounds.iter().map(|&(lower_bound, upper_bound)| pb::SizeRange { lower_bound, upper_bound });
    ShapeFlexibility::ShapeRange(ShapeRange { size_ranges: size_ranges.collect() })
}

fn input(model: &mut pb::Model) -> &mut pb::ArrayFeatureType {
    array(&mut model.description.as_mut().unwrap().input[0])
}

fn program(model: &mut pb::Model) -> &mut pb::mil_spec::Program {
    match &mut model.r#type {
        Some(pb::model::Type::MlProgram(program)) => program,
        other => panic!("{other:?}"),
    }
}

type Change = fn(&mut pb::Model);

#[test]
fn a_model_without_a_known_compiled_form_is_refused_and_nothing_is_written() {
    let table: [(Change, &str); 9] = [
        (|model| model.specification_version = 10, "specification version 10 is unknown"),
        (|model| model.specification_version = 1, "specification version 1 is unknown"),
        (
            |model| {
                let enumerated = EnumeratedShapes { shapes: Vec::new() };
                input(model).shape_flexibility = Some(ShapeFlexibility::EnumeratedShapes(enumerated));
            },
            "the feature `x` has enumerated shapes, whose compiled form is unknown",
        ),
        (
            |model| input(model).shape_flexibility = Some(ranges(&[(1, -1)])),
            "the feature `x` has an extent without upper bound",
        ),
        (|model| input(model).data_type = 0, "the feature `x` has an array of unknown element type"),
        (
            |model| {
                let body = program(model).functions.remove("main").unwrap();
                program(model).functions.insert("other".to_owned(), body);
            },
            "the model describes a function `main` that its program does not have",
        ),
        (
            |model| program(model).functions.get_mut("main").unwrap().inputs[0].name = "x y".to_owned(),
            "writing MIL text, function `main`: `x y` is no identifier",
        ),
        (
            |model| program(model).functions.get_mut("main").unwrap().opset = "CoreML7".to_owned(),
            "MODEL: function `main`: the operator set `CoreML7` has no block",
        ),
        (
            |model| {
                model.r#type = Some(pb::model::Type::NeuralNetwork(pb::NeuralNetwork::default()));
            },
            "MODEL: the model: this is a neural network, not an ML Program",
        ),
    ];
    for (change, expected) in table {
        let (_dir, model) = changed("stateful", change);
        let expected = expected.replace("MODEL", &model.display().to_string());
        let message = refusal(&model);
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn missing_and_damaged_weights_are_named() {
    let (dir, model) = changed("stateful", |_| ());
    let weights = dir.path().join("weights/weight.bin");
    let bytes = fs_err::read(&weights).unwrap();
    fs_err::write(&weights, &bytes[..100]).unwrap();
    assert!(
        refusal(&model).starts_with(&format!("{}: no blob record can lie at byte 64", weights.display()))
    );
    fs_err::remove_file(&weights).unwrap();
    let message = refusal(&model);
    assert!(message.contains(&weights.display().to_string()), "{message}");
}

#[test]
fn a_truncated_model_is_refused_wherever_it_is_cut() {
    let bytes = fs_err::read(fixture("control_flow/model.mlmodel")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model.mlmodel");
    for length in (0..bytes.len()).step_by(97) {
        fs_err::write(&model, &bytes[..length]).unwrap();
        let message = refusal(&model);
        assert!(message.starts_with(&model.display().to_string()), "{message}");
    }
}

#[test]
fn only_a_compiled_model_is_replaced() {
    let (dir, model) = changed("stateful", |_| ());
    let out = dir.path().join("m.mlmodelc");
    let options = CompileOptions::default();
    compile(&model, &out, &options).unwrap();
    fs_err::write(out.join("stale"), "").unwrap();
    compile(&model, &out, &options).unwrap();
    assert!(!out.join("stale").exists());

    let precious = dir.path().join("precious");
    fs_err::create_dir(&precious).unwrap();
    fs_err::write(precious.join("work"), "x").unwrap();
    let file = precious.join("work");
    for out in [&precious, &file] {
        let error = compile(&model, out, &options).unwrap_err();
        assert!(matches!(&error.kind, CompileErrorKind::OutputExists(path) if path == out), "{error}");
    }
    assert_eq!(fs_err::read_to_string(file).unwrap(), "x");
    assert!(matches!(compile(&model, "/", &options).unwrap_err().kind, CompileErrorKind::NoName(_)));
}

/// The form is that of programs with ranges which Apple's compiler made; the model here is another.
#[test]
fn ranges_of_sizes_become_shape_information() {
    let (dir, model) = changed("control_flow", |model| {
        let description = model.description.as_mut().unwrap();
        for feature in &mut description.input {
            let bounds: &[(u64, i64)] = if feature.name == "x" { &[(2, 8)] } else { &[(1, 1)] };
            array(feature).shape_flexibility = Some(ranges(bounds));
        }
    });
    let out = dir.path().join("m.mlmodelc");
    compile(&model, &out, &CompileOptions::default()).unwrap();
    let text = fs_err::read_to_string(out.join("model.mil")).unwrap();
    let expected = "func main<ios18>(tensor<int32, [1]> n, tensor<fp32, [2]> x) [FlexibleShapeInformation = \
        tuple<tuple<string, dict<string, tensor<int32, [?]>>>, tuple<string, dict<string, list<tensor<int32, [2]>, ?>>>>\
        (((\"DefaultShapes\", {{\"n\", [1]}, {\"x\", [2]}}), (\"RangeDims\", {{\"n\", [[1, 1]]}, {\"x\", [[2, 8]]}})))] {";
    assert!(text.contains(expected), "{text}");
    let metadata: serde_json::Value =
        serde_json::from_slice(&fs_err::read(out.join("metadata.json")).unwrap()).unwrap();
    let inputs = metadata[0]["inputSchema"].as_array().unwrap();
    let x = inputs.iter().find(|input| input["name"] == "x").unwrap();
    assert_eq!((&x["shapeRange"], &x["shapeFlexibility"]), (&"[[2, 8]]".into(), &"2...8".into()));
}
