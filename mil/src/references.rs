//! What a program refers to in weight files.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::blob::{BlobError, WeightFile};
use crate::program::{Argument, Block, Literal, Program, Value, ValueType};

/// What stands for the model's own directory in a blob reference.
const MODEL_PATH: &str = "@model_path/";

/// One reference.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference<'a> {
    /// Type of the tensor.
    pub(crate) ty: &'a ValueType,
    /// The weight file, as the program calls it.
    pub(crate) file: &'a str,
    /// Byte offset of the record.
    pub(crate) offset: u64,
}

/// Every reference of `program`, in order of functions and operations.
pub(crate) fn all(program: &Program) -> Vec<Reference<'_>> {
    let mut references = Vec::new();
    for function in program.functions.values() {
        in_block(&function.block, &mut references);
    }
    references
}

/// Maps the weight files of `program`, whose model lies in `directory`, and checks that every reference leads to a
/// blob of exactly its type.
pub(crate) fn open_all(
    program: &Program,
    directory: &Path,
) -> Result<BTreeMap<String, WeightFile>, BlobError> {
    let mut weights = BTreeMap::new();
    for Reference { ty, file, offset } in all(program) {
        if !weights.contains_key(file) {
            weights.insert(file.to_owned(), WeightFile::open(resolve(directory, file)?)?);
        }
        if let Some(weight_file) = weights.get(file) {
            weight_file.tensor(offset, ty)?;
        }
    }
    Ok(weights)
}

/// The path of the weight file a program calls `file`, which must lie in `directory`.
fn resolve(directory: &Path, file: &str) -> Result<PathBuf, BlobError> {
    file.strip_prefix(MODEL_PATH)
        .map(Path::new)
        .filter(|relative| relative.components().all(|part| matches!(part, Component::Normal(_))))
        .map(|relative| directory.join(relative))
        .ok_or_else(|| BlobError::Outside { path: directory.to_owned(), file: file.to_owned() })
}

fn in_block<'a>(block: &'a Block, references: &mut Vec<Reference<'a>>) {
    for operation in &block.operations {
        let arguments = operation.inputs.values().flatten().filter_map(|argument| match argument {
            Argument::Value(value) => Some(value),
            Argument::Name(_) => None,
        });
        for value in arguments.chain(operation.attributes.values()) {
            in_value(value, references);
        }
        for block in &operation.blocks {
            in_block(block, references);
        }
    }
}

fn in_value<'a>(value: &'a Value, references: &mut Vec<Reference<'a>>) {
    match &value.literal {
        Literal::Blob { file, offset } => {
            references.push(Reference { ty: &value.ty, file, offset: *offset });
        }
        Literal::Tuple(members) | Literal::List(members) => {
            for member in members {
                in_value(member, references);
            }
        }
        Literal::Dictionary(entries) => {
            for (key, entry) in entries {
                in_value(key, references);
                in_value(entry, references);
            }
        }
        Literal::Bool(_) | Literal::Int(_) | Literal::Float(_) | Literal::String(_) => {}
    }
}
