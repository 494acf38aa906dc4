//! What a program is, in a few numbers, for people to read.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::program::{Block, DataType, Function, NamedType, Program, ValueType};
use crate::references;

/// A program in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its functions, by name.
    pub functions: BTreeMap<String, FunctionSummary>,
    /// What it refers to in weight files, by element type; a blob counts once however often it is referred to.
    pub weights: BTreeMap<DataType, WeightSummary>,
}

/// One function in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSummary {
    /// Operator set, such as `CoreML8`.
    pub opset: String,
    /// Parameters that are passed on every call.
    pub inputs: Vec<NamedType>,
    /// Parameters that outlive a call.
    pub states: Vec<NamedType>,
    /// Results.
    pub outputs: Vec<NamedType>,
    /// How often each operator occurs, constants and nested blocks included.
    pub operations: BTreeMap<String, u64>,
}

/// Blobs of one element type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightSummary {
    /// How many there are.
    pub blobs: u64,
    /// Bytes of data they take.
    pub bytes: u64,
}

impl Program {
    /// Counts functions, operations and weights.
    pub fn summary(&self) -> Summary {
        let functions = self.functions.iter().map(|(name, function)| (name.clone(), summarize(function)));
        let mut weights: BTreeMap<DataType, WeightSummary> = BTreeMap::new();
        let mut seen = HashSet::new();
        for reference in references::all(self) {
            if let Some(dtype) = reference.ty.dtype()
                && seen.insert((reference.file, reference.offset))
            {
                let entry = weights.entry(dtype).or_default();
                entry.blobs += 1;
                entry.bytes = entry.bytes.saturating_add(reference.ty.byte_len().unwrap_or(0));
            }
        }
        Summary { functions: functions.collect(), weights }
    }
}

fn summarize(function: &Function) -> FunctionSummary {
    let (states, inputs): (Vec<_>, Vec<_>) =
        function.inputs.iter().cloned().partition(|input| matches!(input.ty, ValueType::State(_)));
    let mut types: HashMap<&str, &ValueType> =
        function.inputs.iter().map(|input| (input.name.as_str(), &input.ty)).collect();
    let defined = function.block.operations.iter().flat_map(|operation| &operation.outputs);
    types.extend(defined.map(|output| (output.name.as_str(), &output.ty)));
    let outputs = function.block.outputs.iter().filter_map(|name| {
        let ty = (*types.get(name.as_str())?).clone();
        Some(NamedType { name: name.clone(), ty })
    });
    let outputs = outputs.collect();
    let mut operations = BTreeMap::new();
    count(&function.block, &mut operations);
    FunctionSummary { opset: function.opset.clone(), inputs, states, outputs, operations }
}

fn count(block: &Block, operations: &mut BTreeMap<String, u64>) {
    for operation in &block.operations {
        *operations.entry(operation.kind.clone()).or_default() += 1;
        for block in &operation.blocks {
            count(block, operations);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::text;

    #[test]
    fn a_program_is_counted() {
        let blob = r#"tensor<int8, [3]>(BLOBFILE(path = string("@model_path/w"), offset = uint64(64)))"#;
        let program = format!(
            "program(1.3) {{ func main<ios18>(state<tensor<fp16, [3]>> s, fp16 x) {{
                tensor<int8, [3]> w = const()[val = {blob}];
                tensor<int8, [3]> v = const()[val = {blob}];
                fp16 y = cond() () {{ fp16 z = relu(x = x); }} -> (z);
            }} -> (y, x); }}"
        );
        let summary = text::parse(&program).unwrap().1.summary();
        let main = &summary.functions["main"];
        assert_eq!(
            main.states.iter().map(|state| state.ty.to_string()).collect::<Vec<_>>(),
            ["state<tensor<fp16, [3]>>"]
        );
        assert_eq!(main.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["x"]);
        assert_eq!(main.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), ["y", "x"]);
        assert_eq!(
            main.operations.iter().map(|(k, n)| format!("{k} {n}")).collect::<Vec<_>>(),
            ["cond 1", "const 2", "relu 1"]
        );
        let weights: Vec<_> =
            summary.weights.iter().map(|(dtype, w)| (dtype.name(), w.blobs, w.bytes)).collect();
        assert_eq!(weights, [("int8", 1, 3)]);
    }
}
