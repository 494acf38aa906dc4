//! Ranges of sizes, which `model.mil` repeats from the model's description as an attribute of the function.
//!
//! ```text
//! [FlexibleShapeInformation = tuple<…>((("DefaultShapes", {{"x", [4]}}), ("RangeDims", {{"x", [[1, 8]]}})))]
//! ```

use coreml_proto::proto as pb;

use super::{UnsupportedFeature, feature};
use crate::program::{DataType, Dimension, Literal, Value, ValueType};

/// The attribute's name.
pub(super) const ATTRIBUTE: &str = "FlexibleShapeInformation";

/// The attribute for a function with these inputs; none if their shapes are fixed.
pub(super) fn attribute(inputs: &[pb::FeatureDescription]) -> Result<Option<Value>, UnsupportedFeature> {
    let mut ranged = Vec::new();
    for input in inputs {
        let Some(pb::feature_type::Type::MultiArrayType(array)) =
            input.r#type.as_ref().and_then(|ty| ty.r#type.as_ref())
        else {
            continue;
        };
        let unsupported = |what| UnsupportedFeature { name: input.name.clone(), what };
        if let Some(ranges) = feature::size_ranges(array).map_err(unsupported)? {
            ranged.push((&input.name, feature::default_shape(array), ranges));
        }
    }
    if ranged.is_empty() {
        return Ok(None);
    }
    ranged.sort();
    let defaults =
        ranged.iter().map(|(name, shape, _)| (Value::string(*name), extents(shape.clone()))).collect();
    let ranges = ranged.iter().map(|(name, _, ranges)| (Value::string(*name), range_list(ranges))).collect();
    Ok(Some(tuple(vec![
        section("DefaultShapes", extents_type(), defaults),
        section("RangeDims", range_list_type(), ranges),
    ])))
}

/// `(name, {{input, value}, …})`
fn section(name: &str, value_type: ValueType, entries: Vec<(Value, Value)>) -> Value {
    let ty = ValueType::Dictionary(Box::new(ValueType::scalar(DataType::String)), Box::new(value_type));
    tuple(vec![Value::string(name), Value { ty, literal: Literal::Dictionary(entries) }])
}

fn tuple(members: Vec<Value>) -> Value {
    let ty = ValueType::Tuple(members.iter().map(|member| member.ty.clone()).collect());
    Value { ty, literal: Literal::Tuple(members) }
}

fn extents(shape: Vec<i64>) -> Value {
    Value { ty: extents_type(), literal: Literal::Int(shape) }
}

fn range_list(ranges: &[(u64, u64)]) -> Value {
    let pair = |&(low, high): &(u64, u64)| Value {
        ty: pair_type(),
        literal: Literal::Int(vec![low.cast_signed(), high.cast_signed()]),
    };
    Value { ty: range_list_type(), literal: Literal::List(ranges.iter().map(pair).collect()) }
}

fn extents_type() -> ValueType {
    ValueType::Tensor { dtype: DataType::Int32, shape: vec![Dimension::Unknown { variadic: false }] }
}

fn pair_type() -> ValueType {
    ValueType::tensor(DataType::Int32, &[2])
}

fn range_list_type() -> ValueType {
    ValueType::List { element: Box::new(pair_type()), length: Dimension::Unknown { variadic: false } }
}
