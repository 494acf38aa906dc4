//! Protobuf program → [`Program`].

use std::collections::{BTreeMap, HashMap};

use coreml_proto::proto::mil_spec as pb;

use super::error::{ProtoError, ProtoErrorKind};
use super::tensor;
use crate::program::{
    Argument, Block, DataType, Dimension, Function, Literal, NamedType, Operation, Program, Value, ValueType,
};
use crate::text::MAX_RANK;

type Result<T, E = ProtoErrorKind> = std::result::Result<T, E>;

pub(super) fn convert(program: &pb::Program) -> Result<Program, ProtoError> {
    if program.version != 1 {
        return Err(ProtoErrorKind::UnknownVersion(program.version).at("the program"));
    }
    let attributes = attributes(&program.attributes).map_err(|kind| kind.at("the program's attributes"))?;
    let functions = program
        .functions
        .iter()
        .map(|(name, function_pb)| Ok((name.clone(), function(name, function_pb)?)))
        .collect::<Result<_, ProtoError>>()?;
    Ok(Program { version: program.version, functions, attributes })
}

fn function(name: &str, function: &pb::Function) -> Result<Function, ProtoError> {
    let at = |kind: ProtoErrorKind| kind.at(format!("function `{name}`"));
    let block_pb = function
        .block_specializations
        .get(&function.opset)
        .ok_or_else(|| at(ProtoErrorKind::NoBlock(function.opset.clone())))?;
    let operations = block_pb
        .operations
        .iter()
        .enumerate()
        .map(|(index, pb)| operation(pb).map_err(|kind| kind.at(place_of(name, index, pb))))
        .collect::<Result<_, ProtoError>>()?;
    let block = Block {
        inputs: named_types(&block_pb.inputs).map_err(at)?,
        operations,
        outputs: block_pb.outputs.clone(),
        attributes: attributes(&block_pb.attributes).map_err(at)?,
    };
    Ok(Function {
        opset: function.opset.clone(),
        inputs: named_types(&function.inputs).map_err(at)?,
        block,
        attributes: attributes(&function.attributes).map_err(at)?,
    })
}

/// Where an operation is, for messages.
fn place_of(function: &str, index: usize, operation: &pb::Operation) -> String {
    let output = operation.outputs.first().map(|output| format!(" that defines `{}`", output.name));
    let output = output.unwrap_or_default();
    format!("function `{function}`, operation {index}, `{}`{output}", operation.r#type)
}

fn operation(operation: &pb::Operation) -> Result<Operation> {
    let inputs = operation
        .inputs
        .iter()
        .map(|(key, arguments)| {
            Ok((key.clone(), arguments.arguments.iter().map(argument).collect::<Result<_>>()?))
        })
        .collect::<Result<_>>()?;
    Ok(Operation {
        kind: operation.r#type.clone(),
        inputs,
        outputs: named_types(&operation.outputs)?,
        attributes: attributes(&operation.attributes)?,
        blocks: operation.blocks.iter().map(block).collect::<Result<_>>()?,
    })
}

fn block(block: &pb::Block) -> Result<Block> {
    Ok(Block {
        inputs: named_types(&block.inputs)?,
        operations: block.operations.iter().map(operation).collect::<Result<_>>()?,
        outputs: block.outputs.clone(),
        attributes: attributes(&block.attributes)?,
    })
}

fn argument(binding: &pb::argument::Binding) -> Result<Argument> {
    use pb::argument::binding::Binding;
    match &binding.binding {
        Some(Binding::Name(name)) => Ok(Argument::Name(name.clone())),
        Some(Binding::Value(pb)) => Ok(Argument::Value(value(pb)?)),
        None => Err(ProtoErrorKind::Missing("an argument's name or value")),
    }
}

fn attributes(attributes: &HashMap<String, pb::Value>) -> Result<BTreeMap<String, Value>> {
    attributes.iter().map(|(key, pb)| Ok((key.clone(), value(pb)?))).collect()
}

fn named_types(variables: &[pb::NamedValueType]) -> Result<Vec<NamedType>> {
    variables
        .iter()
        .map(|variable| {
            Ok(NamedType { name: variable.name.clone(), ty: optional_type(variable.r#type.as_ref())? })
        })
        .collect()
}

fn optional_type(ty: Option<&pb::ValueType>) -> Result<ValueType> {
    value_type(ty.ok_or(ProtoErrorKind::Missing("a type"))?)
}

fn value_type(ty: &pb::ValueType) -> Result<ValueType> {
    use pb::value_type::Type;
    Ok(match ty.r#type.as_ref().ok_or(ProtoErrorKind::Missing("a type"))? {
        Type::TensorType(tensor) => tensor_type(tensor)?,
        Type::ListType(list) => ValueType::List {
            element: Box::new(optional_type(list.r#type.as_deref())?),
            length: dimension(list.length.as_ref().ok_or(ProtoErrorKind::Missing("a list's length"))?)?,
        },
        Type::TupleType(tuple) => {
            ValueType::Tuple(tuple.types.iter().map(value_type).collect::<Result<_>>()?)
        }
        Type::DictionaryType(dictionary) => ValueType::Dictionary(
            Box::new(optional_type(dictionary.key_type.as_deref())?),
            Box::new(optional_type(dictionary.value_type.as_deref())?),
        ),
        Type::StateType(state) => ValueType::State(Box::new(optional_type(state.wrapped_type.as_deref())?)),
    })
}

fn tensor_type(tensor: &pb::TensorType) -> Result<ValueType> {
    if !tensor.attributes.is_empty() {
        return Err(ProtoErrorKind::Unsupported("attributes of a tensor type"));
    }
    let dtype = data_type(tensor.data_type)?;
    let extents = tensor.dimensions.len();
    // Scalars leave both fields out; a rank of -1 without extents stands for any rank.
    let shape = match tensor.rank {
        -1 if extents == 0 => vec![Dimension::Unknown { variadic: true }],
        rank if extents <= MAX_RANK && usize::try_from(rank).is_ok_and(|rank| rank == extents) => {
            tensor.dimensions.iter().map(dimension).collect::<Result<_>>()?
        }
        rank => return Err(ProtoErrorKind::Rank { rank, extents }),
    };
    Ok(ValueType::Tensor { dtype, shape })
}

fn dimension(dimension: &pb::Dimension) -> Result<Dimension> {
    use pb::dimension::Dimension as Pb;
    match dimension.dimension {
        Some(Pb::Constant(constant)) => Ok(Dimension::Fixed(constant.size)),
        Some(Pb::Unknown(unknown)) => Ok(Dimension::Unknown { variadic: unknown.variadic }),
        None => Err(ProtoErrorKind::Missing("an extent")),
    }
}

fn data_type(code: i32) -> Result<DataType> {
    use pb::DataType as Pb;
    Ok(match Pb::try_from(code) {
        Ok(Pb::Bool) => DataType::Bool,
        Ok(Pb::String) => DataType::String,
        Ok(Pb::Float8e4m3fn) => DataType::Float8E4M3Fn,
        Ok(Pb::Float8e5m2) => DataType::Float8E5M2,
        Ok(Pb::Float16) => DataType::Float16,
        Ok(Pb::Float32) => DataType::Float32,
        Ok(Pb::Float64) => DataType::Float64,
        Ok(Pb::Bfloat16) => DataType::BFloat16,
        Ok(Pb::Int4) => DataType::Int4,
        Ok(Pb::Int8) => DataType::Int8,
        Ok(Pb::Int16) => DataType::Int16,
        Ok(Pb::Int32) => DataType::Int32,
        Ok(Pb::Int64) => DataType::Int64,
        Ok(Pb::Uint1) => DataType::UInt1,
        Ok(Pb::Uint2) => DataType::UInt2,
        Ok(Pb::Uint3) => DataType::UInt3,
        Ok(Pb::Uint4) => DataType::UInt4,
        Ok(Pb::Uint6) => DataType::UInt6,
        Ok(Pb::Uint8) => DataType::UInt8,
        Ok(Pb::Uint16) => DataType::UInt16,
        Ok(Pb::Uint32) => DataType::UInt32,
        Ok(Pb::Uint64) => DataType::UInt64,
        Ok(Pb::UnusedType) | Err(_) => return Err(ProtoErrorKind::UnknownType(code)),
    })
}

fn value(value: &pb::Value) -> Result<Value> {
    member(&optional_type(value.r#type.as_ref())?, value)
}

/// A value whose type is `ty`, because it says so itself or because it is part of a larger one.
fn member(ty: &ValueType, value: &pb::Value) -> Result<Value> {
    use pb::value::Value as Pb;
    let literal = match &value.value {
        Some(Pb::ImmediateValue(immediate)) => immediate_value(ty, immediate)?,
        Some(Pb::BlobFileValue(blob)) => Literal::Blob { file: blob.file_name.clone(), offset: blob.offset },
        None => return Err(ProtoErrorKind::Missing("a value's content")),
    };
    Ok(Value { ty: ty.clone(), literal })
}

fn immediate_value(ty: &ValueType, value: &pb::value::ImmediateValue) -> Result<Literal> {
    use pb::value::immediate_value::Value as Pb;
    let count = |found| ProtoErrorKind::Count { ty: ty.to_string(), found };
    Ok(match (ty, &value.value) {
        (ValueType::Tensor { dtype, .. }, Some(Pb::Tensor(stored))) => tensor::elements(ty, *dtype, stored)?,
        (ValueType::List { element, length }, Some(Pb::List(list))) => {
            if length.fixed().is_some_and(|length| length != list.values.len() as u64) {
                return Err(count(list.values.len()));
            }
            Literal::List(list.values.iter().map(|pb| member(element, pb)).collect::<Result<_>>()?)
        }
        (ValueType::Tuple(types), Some(Pb::Tuple(tuple))) => {
            if types.len() != tuple.values.len() {
                return Err(count(tuple.values.len()));
            }
            let members = types.iter().zip(&tuple.values).map(|(ty, pb)| member(ty, pb));
            Literal::Tuple(members.collect::<Result<_>>()?)
        }
        (ValueType::Dictionary(key_type, value_type), Some(Pb::Dictionary(dictionary))) => {
            let missing = ProtoErrorKind::Missing("a dictionary's key or value");
            let entries = dictionary.values.iter().map(|entry| match (&entry.key, &entry.value) {
                (Some(key), Some(value)) => Ok((member(key_type, key)?, member(value_type, value)?)),
                _ => Err(missing.clone()),
            });
            Literal::Dictionary(entries.collect::<Result<_>>()?)
        }
        (_, stored) => {
            let found = match stored {
                None => "nothing",
                Some(Pb::Tensor(_)) => "a tensor",
                Some(Pb::List(_)) => "a list",
                Some(Pb::Tuple(_)) => "a tuple",
                Some(Pb::Dictionary(_)) => "a dictionary",
            };
            return Err(ProtoErrorKind::Storage { ty: ty.to_string(), found });
        }
    })
}
