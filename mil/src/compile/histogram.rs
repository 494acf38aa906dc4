//! How often each operator occurs, named as `metadata.json` names it: camel case behind the operator set that last
//! redefined the operator (`Ios17.conv`, `Ios16.softmax`; a bare `Split` was never redefined since iOS 15).
//!
//! Which set redefined an operator is known from Apple's output. Every operator was at iOS 18; at iOS 16 and 17 the
//! operators below were not, as far as compiled models show. An operator that no model showed counts as redefined.

use std::collections::BTreeMap;

use crate::opset;
use crate::program::{Block, Function};

/// Operators whose iOS 16 form is that of iOS 15.
const UNCHANGED_IN_IOS16: [&str; 10] = [
    "concat",
    "expand_dims",
    "pad",
    "select",
    "slice_by_index",
    "split",
    "squeeze",
    "stack",
    "tile",
    "transpose",
];

/// Operators whose iOS 17 form is an earlier one.
const UNCHANGED_IN_IOS17: [&str; 13] = [
    "constexpr_affine_dequantize",
    "constexpr_cast",
    "constexpr_lut_to_dense",
    "constexpr_sparse_to_dense",
    "pad",
    "relu",
    "select",
    "sigmoid",
    "silu",
    "softmax",
    "split",
    "stack",
    "tile",
];

/// Counts the operations of `function`, those of nested blocks too, without constants.
pub(super) fn of(function: &Function) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    count(&function.block, &function.opset, &mut counts);
    counts
}

fn count(block: &Block, opset: &str, counts: &mut BTreeMap<String, u64>) {
    for operation in &block.operations {
        if operation.kind != "const" {
            *counts.entry(title(&operation.kind, opset)).or_default() += 1;
        }
        for block in &operation.blocks {
            count(block, opset, counts);
        }
    }
}

/// `Ios17.sliceByIndex` for `slice_by_index` of `CoreML7`.
fn title(kind: &str, opset: &str) -> String {
    match redefined_in(kind, opset) {
        Some(set) => format!("{}.{}", capitalize(set), camel_case(kind)),
        None => capitalize(&camel_case(kind)),
    }
}

/// The tag of the operator set, not later than `opset`, that last redefined `kind`.
fn redefined_in(kind: &str, opset: &str) -> Option<&'static str> {
    match opset {
        "CoreML5" => None,
        "CoreML6" if UNCHANGED_IN_IOS16.contains(&kind) => None,
        "CoreML7" if UNCHANGED_IN_IOS17.contains(&kind) => redefined_in(kind, "CoreML6"),
        _ => opset::tag_of(opset),
    }
}

fn camel_case(kind: &str) -> String {
    let mut words = kind.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &capitalize(word))
}

fn capitalize(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::title;

    /// As metadata of models that Apple's compiler made shows them.
    #[test]
    fn operators_are_named_as_apple_names_them() {
        let table: [(&str, &str); 5] = [
            ("CoreML5", "Log Concat Lstm SliceByIndex ReduceMean Pad"),
            (
                "CoreML6",
                "Ios16.conv Ios16.add Ios16.maxPool Concat Ios16.cast SliceByIndex Transpose Squeeze Ios16.reduceArgmax \
                 ExpandDims Ios16.constexprAffineDequantize Ios16.constexprLutToDense Ios16.constexprSparseToDense Pad",
            ),
            (
                "CoreML7",
                "Ios16.relu Ios17.gather Ios17.less Ios17.concat Ios16.constexprAffineDequantize Ios17.layerNorm \
                 Ios16.softmax Split Select Tile Ios17.sliceByIndex Ios16.sigmoid Pad Ios16.silu Stack Ios17.logicalNot \
                 Ios17.expandDims",
            ),
            ("CoreML8", "Ios18.relu"),
            ("CoreML9", "Ios26.relu"),
        ];
        for (opset, titles) in table {
            for expected in titles.split_whitespace() {
                let camel = expected.rsplit('.').next().unwrap();
                let snake = camel.chars().enumerate().fold(String::new(), |name, (index, c)| match c {
                    'A'..='Z' if index > 0 => name + "_" + &c.to_lowercase().to_string(),
                    _ => name + &c.to_lowercase().to_string(),
                });
                assert_eq!(title(&snake, opset), expected);
            }
        }
    }
}
