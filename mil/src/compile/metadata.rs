//! `metadata.json`: what a compiled model says about itself. An array of one object.

use std::collections::BTreeMap;

use coreml_proto::proto as pb;
use serde::Serialize;

use super::feature::{self, Feature};
use super::{CompileErrorKind, histogram, precision};
use crate::program::Function;
use crate::proto::ModelSpec;

/// The function of a model that lists none.
const MAIN: &str = "main";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    metadata_output_version: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    short_description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    author: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    license: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_precision: Option<String>,
    compute_precision: String,
    model_type: ModelType,
    specification_version: i32,
    availability: BTreeMap<&'static str, &'static str>,
    is_updatable: &'static str,
    input_schema: Vec<Feature>,
    output_schema: Vec<Feature>,
    state_schema: Vec<Feature>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    functions: Vec<FunctionMetadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_function_name: Option<String>,
    model_parameters: [(); 0],
    ml_program_operation_type_histogram: BTreeMap<String, u64>,
    user_defined_metadata: BTreeMap<String, String>,
    generated_class_name: String,
    method: &'static str,
}

#[derive(Serialize)]
struct ModelType {
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FunctionMetadata {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_precision: Option<String>,
    compute_precision: String,
    input_schema: Vec<Feature>,
    output_schema: Vec<Feature>,
    state_schema: Vec<Feature>,
    ml_program_operation_type_histogram: BTreeMap<String, u64>,
}

/// The file's bytes for a model whose compiled form is called `class_name`.
pub(super) fn bytes(model: &ModelSpec, class_name: &str) -> Result<Vec<u8>, CompileErrorKind> {
    let document = [document(model, class_name)?];
    Ok(serde_json::to_vec_pretty(&document)?)
}

fn document(model: &ModelSpec, class_name: &str) -> Result<Document, CompileErrorKind> {
    let description = &model.description;
    let default = match description.default_function_name.as_str() {
        "" => MAIN,
        name => name,
    };
    // A model with a list of functions describes their features there, others describe them once for all.
    let (inputs, outputs, states) = match description.functions.iter().find(|f| f.name == default) {
        Some(function) => (&function.input, &function.output, &function.state),
        None => (&description.input, &description.output, &description.state),
    };
    let main = function(model, default)?;
    let precision = precision::of(main);
    let functions = description.functions.iter().map(|f| function_metadata(model, f));
    let texts = description.metadata.clone().unwrap_or_default();
    Ok(Document {
        metadata_output_version: "3.0",
        short_description: texts.short_description,
        author: texts.author,
        version: texts.version_string,
        license: texts.license,
        storage_precision: precision.storage,
        compute_precision: precision.compute,
        model_type: ModelType { name: "MLModelType_mlProgram" },
        specification_version: model.specification_version,
        availability: availability(model.specification_version),
        is_updatable: if model.is_updatable { "1" } else { "0" },
        input_schema: feature::describe_all(inputs)?,
        output_schema: feature::describe_all(outputs)?,
        state_schema: feature::describe_all(states)?,
        functions: functions.collect::<Result<_, _>>()?,
        default_function_name: (!description.functions.is_empty()).then(|| default.to_owned()),
        model_parameters: [],
        ml_program_operation_type_histogram: histogram::of(main),
        user_defined_metadata: texts.user_defined.into_iter().collect(),
        generated_class_name: identifier(class_name),
        method: "predict",
    })
}

fn function_metadata(
    model: &ModelSpec,
    description: &pb::FunctionDescription,
) -> Result<FunctionMetadata, CompileErrorKind> {
    let function = function(model, &description.name)?;
    let precision = precision::of(function);
    Ok(FunctionMetadata {
        name: description.name.clone(),
        storage_precision: precision.storage,
        compute_precision: precision.compute,
        input_schema: feature::describe_all(&description.input)?,
        output_schema: feature::describe_all(&description.output)?,
        state_schema: feature::describe_all(&description.state)?,
        ml_program_operation_type_histogram: histogram::of(function),
    })
}

fn function<'a>(model: &'a ModelSpec, name: &str) -> Result<&'a Function, CompileErrorKind> {
    model.program.functions.get(name).ok_or_else(|| CompileErrorKind::NoFunction(name.to_owned()))
}

/// The first versions of Apple's systems that load a model of this specification version.
fn availability(specification_version: i32) -> BTreeMap<&'static str, &'static str> {
    const SYSTEMS: [&str; 6] = ["macOS", "tvOS", "visionOS", "watchOS", "iOS", "macCatalyst"];
    let versions = match specification_version {
        ..=6 => ["12.0", "15.0", "1.0", "8.0", "15.0", "15.0"],
        7 => ["13.0", "16.0", "1.0", "9.0", "16.0", "16.0"],
        8 => ["14.0", "17.0", "1.0", "10.0", "17.0", "17.0"],
        _ => ["15.0", "18.0", "2.0", "11.0", "18.0", "18.0"],
    };
    SYSTEMS.into_iter().zip(versions).collect()
}

/// A class name: what cannot stand in one becomes `_`.
fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect()
}
