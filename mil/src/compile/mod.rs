//! The portable compiler: `.mlpackage` → `.mlmodelc`, on any system.
//!
//! Apple's compiler does not change an ML Program: it writes it down as text beside a copy of its weights and three
//! descriptions. So does this one. Against public pairs of package and compiled model, `model.mil`, the weights and
//! both `coremldata.bin` come out byte for byte (given the same compiler versions) and `metadata.json` equal as JSON;
//! the tests say which. Never compared, for want of a public pair: programs with states, and control flow. On a Mac,
//! use Apple's.
//!
//! Shapes: fixed ones, and bounded ranges of sizes, which are written as `FlexibleShapeInformation`. Enumerated
//! shapes, unbounded ranges and images of flexible size are refused.

mod analytics;
mod coremldata;
mod error;
mod feature;
mod flexible;
mod histogram;
mod metadata;
mod output;
mod precision;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use error::{CompileError, CompileErrorKind, UnsupportedFeature};

use crate::package::Package;
use crate::program::{DataType, Literal, Program, Value, ValueType};
use crate::proto::ModelSpec;
use crate::references;
use crate::text::{self, Dialect};

/// Specification versions whose compiled form is known: iOS 15 to iOS 18.
const KNOWN_VERSIONS: std::ops::RangeInclusive<i32> = 6..=9;

/// The versions a compiled program's `buildInfo` names as its compiler's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompilerVersions {
    /// `coremlc-component-MIL`.
    pub mil: String,
    /// `coremlc-version`.
    pub coremlc: String,
}

/// Those of Xcode 26.4, whose output this compiler writes.
impl Default for CompilerVersions {
    fn default() -> Self {
        Self { mil: "3520.4.1".to_owned(), coremlc: "3520.5.1".to_owned() }
    }
}

/// How weights come into the compiled model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WeightPlacement {
    /// As files of their own. On file systems that can, the copy shares its blocks with the original.
    #[default]
    Copy,
    /// As further names of the same files, or copied if that cannot be (another file system). Right only if nobody
    /// writes to the package's files again, such as those of a store.
    HardLink,
}

/// What a caller may choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// What the program says of its compiler.
    pub versions: CompilerVersions,
    /// How weights come into the compiled model.
    pub weights: WeightPlacement,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Every file, relative to the compiled model, with its bytes.
    pub files: BTreeMap<PathBuf, u64>,
    /// How many of them share their bytes with the package by a hard link.
    pub hard_linked: usize,
}

/// Compiles the package at `package` into `out`, a directory whose name ends in `.mlmodelc`.
///
/// The whole model appears under its name at once, or not at all; a compiled model that stands there is replaced,
/// anything else left alone. Every blob the program refers to is checked first.
pub fn compile(
    package: impl AsRef<Path>,
    out: impl AsRef<Path>,
    options: &CompileOptions,
) -> Result<Report, CompileError> {
    let path = package.as_ref();
    run(path, out.as_ref(), options).map_err(|kind| CompileError { package: path.to_owned(), kind })
}

fn run(package: &Path, out: &Path, options: &CompileOptions) -> Result<Report, CompileErrorKind> {
    let package = Package::open(package)?;
    let bytes = package.model_bytes()?;
    let mut model = package.decode(&bytes)?;
    if !KNOWN_VERSIONS.contains(&model.specification_version) {
        return Err(CompileErrorKind::UnknownVersion(model.specification_version));
    }
    let referenced = references::open_all(&model.program, package.model_directory())?;

    add_build_info(&mut model.program, &options.versions)?;
    add_shape_information(&mut model)?;
    let dialect = Dialect::of_specification(model.specification_version);
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let files = [
        ("model.mil", text::print(&model.program, dialect)?.into_bytes()),
        ("coremldata.bin", coremldata::bytes(&model)),
        ("metadata.json", metadata::bytes(&model, &stem(out).unwrap_or_default())?),
        (
            "analytics/coremldata.bin",
            analytics::bytes(&bytes, &stem(package.model_path()).unwrap_or_default()),
        ),
    ];
    // What lies beside a bare model is its own only if it refers to it.
    let weights = (!package.is_bare() || !referenced.is_empty()).then(|| package.weights_directory());
    output::write(out, &files, weights.as_deref(), options.weights)
}

/// Adds the compiler's versions to the program's `buildInfo`, whose entries are sorted by key.
fn add_build_info(program: &mut Program, versions: &CompilerVersions) -> Result<(), CompileErrorKind> {
    let string = || Box::new(ValueType::scalar(DataType::String));
    let mut entries = BTreeMap::new();
    if let Some(value) = program.attributes.get("buildInfo") {
        let Literal::Dictionary(stated) = &value.literal else { return Err(CompileErrorKind::BuildInfo) };
        for (key, value) in stated {
            let (Some(key), Some(value)) = (key.as_str(), value.as_str()) else {
                return Err(CompileErrorKind::BuildInfo);
            };
            entries.insert(key.to_owned(), value.to_owned());
        }
    }
    // A program that was compiled before keeps what its maker said of it.
    entries.entry("coremlc-component-MIL".to_owned()).or_insert_with(|| versions.mil.clone());
    entries.entry("coremlc-version".to_owned()).or_insert_with(|| versions.coremlc.clone());
    let entries = entries.into_iter().map(|(key, value)| (Value::string(key), Value::string(value)));
    let info = Value {
        ty: ValueType::Dictionary(string(), string()),
        literal: Literal::Dictionary(entries.collect()),
    };
    program.attributes.insert("buildInfo".to_owned(), info);
    Ok(())
}

/// Adds to every function the ranges of sizes that the model's description gives its inputs.
fn add_shape_information(model: &mut ModelSpec) -> Result<(), CompileErrorKind> {
    let description = &model.description;
    for (name, function) in &mut model.program.functions {
        let described = description.functions.iter().find(|described| described.name == *name);
        let inputs = described.map_or(&description.input, |described| &described.input);
        if let Some(attribute) = flexible::attribute(inputs)? {
            function.attributes.insert(flexible::ATTRIBUTE.to_owned(), attribute);
        }
    }
    Ok(())
}
