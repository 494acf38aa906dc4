//! In which types a program computes, and in which it stores its weights, as `metadata.json` says it.

use std::collections::{BTreeSet, HashMap};

use crate::program::{Argument, Block, DataType, Function, Literal, Operation, Value, ValueType};

/// Both precisions of a function, in the words of `metadata.json`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Precision {
    /// Types of the variables that operations other than constants take and give.
    pub(super) compute: String,
    /// Types of the weights; none without a weight file.
    pub(super) storage: Option<String>,
}

/// Finds the precisions of `function`.
pub(super) fn of(function: &Function) -> Precision {
    let mut walk = Walk::default();
    for input in &function.inputs {
        walk.variables.insert(&input.name, &input.ty);
    }
    walk.block(&function.block);
    Precision {
        compute: mixed(&walk.compute),
        storage: (!walk.storage.is_empty()).then(|| mixed(&walk.storage)),
    }
}

/// `Float16`, or `Mixed (Float16, Int32)`.
fn mixed(types: &BTreeSet<String>) -> String {
    let names: Vec<_> = types.iter().map(String::as_str).collect();
    match names.as_slice() {
        [name] => (*name).to_owned(),
        _ => format!("Mixed ({})", names.join(", ")),
    }
}

#[derive(Default)]
struct Walk<'a> {
    variables: HashMap<&'a str, &'a ValueType>,
    compute: BTreeSet<String>,
    storage: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    fn block(&mut self, block: &'a Block) {
        for input in &block.inputs {
            self.variables.insert(&input.name, &input.ty);
        }
        for operation in &block.operations {
            for output in &operation.outputs {
                self.variables.insert(&output.name, &output.ty);
            }
            if operation.kind == "const" || operation.kind.starts_with("constexpr_") {
                self.weights(operation);
                continue;
            }
            for output in &operation.outputs {
                self.computes_in(&output.ty);
            }
            for argument in operation.inputs.values().flatten() {
                match argument {
                    Argument::Value(value) => self.computes_in(&value.ty),
                    Argument::Name(name) => {
                        if let Some(ty) = self.variables.get(name.as_str()) {
                            self.computes_in(ty);
                        }
                    }
                }
            }
            for block in &operation.blocks {
                self.block(block);
            }
        }
    }

    fn computes_in(&mut self, ty: &ValueType) {
        if let Some(dtype) = ty.dtype().filter(|dtype| !matches!(dtype, DataType::Bool | DataType::String)) {
            self.compute.insert(type_name(dtype));
        }
    }

    /// What the blobs of a constant are stored as. A parameter that only helps to decompress others (a scale, a
    /// lookup table, the nonzero elements of a sparse tensor) does not count.
    fn weights(&mut self, operation: &Operation) {
        let arguments = operation.inputs.iter().filter_map(|(key, arguments)| match arguments.as_slice() {
            [Argument::Value(value)] => Some((key, value)),
            _ => None,
        });
        for (key, value) in arguments.chain(operation.attributes.iter()) {
            let Some(dtype) = value.ty.dtype().filter(|_| is_blob(value)) else { continue };
            match (operation.kind.as_str(), key.as_str()) {
                (
                    "constexpr_lut_to_dense" | "constexpr_lut_to_sparse",
                    "indices" | "indices_nonzero_data",
                ) => {
                    if let Some(bits) = palette_bits(operation, dtype) {
                        self.storage.insert(format!("Palettized ({bits} bits)"));
                    }
                }
                (
                    "constexpr_sparse_to_dense"
                    | "constexpr_lut_to_sparse"
                    | "constexpr_sparse_blockwise_shift_scale",
                    "mask" | "indices_mask" | "data_mask",
                ) => {
                    self.storage.insert("Sparse".to_owned());
                }
                ("constexpr_affine_dequantize", "quantized_data")
                | ("constexpr_blockwise_shift_scale", "data")
                | ("constexpr_sparse_blockwise_shift_scale", "nonzero_data")
                | ("constexpr_cast" | "const", _) => {
                    self.storage.insert(type_name(dtype));
                }
                _ => {}
            }
        }
    }
}

fn is_blob(value: &Value) -> bool {
    matches!(value.literal, Literal::Blob { .. })
}

/// Bits an index into the lookup table takes: of its type from iOS 18 on; before, indices are packed into bytes and
/// the table has 2^bits elements.
fn palette_bits(operation: &Operation, indices: DataType) -> Option<u32> {
    if indices != DataType::UInt8 {
        return indices.bits();
    }
    let table =
        operation.attributes.get("lut").or_else(|| match operation.inputs.get("lut")?.as_slice() {
            [Argument::Value(value)] => Some(value),
            _ => None,
        })?;
    match table.ty.fixed_shape()?.as_slice() {
        // Before iOS 18 the table is a vector.
        [elements] => elements.checked_ilog2(),
        _ => indices.bits(),
    }
}

/// `Float16` for `fp16`.
fn type_name(dtype: DataType) -> String {
    match dtype {
        DataType::Bool => "Bool".to_owned(),
        DataType::String => "String".to_owned(),
        // The names of this enum are those of `metadata.json`.
        _ => format!("{dtype:?}"),
    }
}
