//! The one typed model of an ML Program.
//!
//! Both wire forms, the protobuf of an `.mlpackage` and the text of an `.mlmodelc`, read into these types and print
//! from them; the executor, the residency rules and the inspector know only these. Names are those of Core ML's
//! MIL specification (`MIL.proto`).

use std::collections::BTreeMap;

pub use crate::types::{DataType, Dimension, ValueType};

/// A constant with its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Type, shape included.
    pub ty: ValueType,
    /// Content; the variant agrees with `ty`.
    pub literal: Literal,
}

impl Value {
    /// A scalar string.
    pub fn string(text: impl Into<String>) -> Self {
        Self { ty: ValueType::scalar(DataType::String), literal: Literal::String(vec![text.into()]) }
    }

    /// The text of a scalar string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.literal {
            Literal::String(elements) if self.is_scalar() => elements.first().map(String::as_str),
            _ => None,
        }
    }

    /// The value of a scalar integer.
    pub fn as_int(&self) -> Option<i64> {
        match &self.literal {
            Literal::Int(elements) if self.is_scalar() => elements.first().copied(),
            _ => None,
        }
    }

    /// The value of a scalar number of any floating-point type.
    pub fn as_float(&self) -> Option<f64> {
        match &self.literal {
            Literal::Float(elements) if self.is_scalar() => elements.first().copied(),
            _ => None,
        }
    }

    /// The value of a scalar truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.literal {
            Literal::Bool(elements) if self.is_scalar() => elements.first().copied(),
            _ => None,
        }
    }

    /// Elements of an inline integer tensor of any rank, last axis fastest.
    pub fn as_ints(&self) -> Option<&[i64]> {
        match &self.literal {
            Literal::Int(elements) => Some(elements),
            _ => None,
        }
    }

    fn is_scalar(&self) -> bool {
        matches!(&self.ty, ValueType::Tensor { shape, .. } if shape.is_empty())
    }
}

/// The content of a [`Value`]. Tensors are flattened, last axis fastest.
///
/// Two literals are equal when their elements have the same bits: a program with a NaN in it equals itself, and
/// `-0.0` is not `0.0`.
#[derive(Debug, Clone)]
pub enum Literal {
    /// Elements of a bool tensor.
    Bool(Vec<bool>),
    /// Elements of any integer tensor, widened; those of a `uint64` tensor keep their bits (`as u64` gives the
    /// value).
    Int(Vec<i64>),
    /// Elements of any floating-point tensor, widened (exact for fp16, bf16, fp32 and fp64). Every NaN is the same
    /// one.
    Float(Vec<f64>),
    /// Elements of a string tensor.
    String(Vec<String>),
    /// Members of a tuple.
    Tuple(Vec<Value>),
    /// Members of a list.
    List(Vec<Value>),
    /// Entries of a dictionary, in file order.
    Dictionary(Vec<(Value, Value)>),
    /// Elements that lie in a weight file, at the byte `offset` of their blob record.
    Blob {
        /// As written, usually `@model_path/weights/weight.bin`.
        file: String,
        /// Byte offset of the 64-byte blob record.
        offset: u64,
    },
}

impl PartialEq for Literal {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => {
                a.iter().copied().map(f64::to_bits).eq(b.iter().copied().map(f64::to_bits))
            }
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Tuple(a), Self::Tuple(b)) | (Self::List(a), Self::List(b)) => a == b,
            (Self::Dictionary(a), Self::Dictionary(b)) => a == b,
            (Self::Blob { file: a, offset: i }, Self::Blob { file: b, offset: j }) => a == b && i == j,
            _ => false,
        }
    }
}

/// A named variable and its type: a function's parameter, or an operation's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedType {
    /// Variable name, unique in its function.
    pub name: String,
    /// Type, shape included.
    pub ty: ValueType,
}

/// What an operation's parameter is bound to.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// A variable defined earlier.
    Name(String),
    /// An inline constant.
    Value(Value),
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Operator, such as `conv`, `const`, `read_state`.
    pub kind: String,
    /// Parameters; a parameter that takes several arguments (`concat`'s `values`) has several.
    pub inputs: BTreeMap<String, Vec<Argument>>,
    /// Results, in order; `write_state` has none.
    pub outputs: Vec<NamedType>,
    /// Attributes, such as `name`, and `val` of a `const`.
    pub attributes: BTreeMap<String, Value>,
    /// Bodies of control-flow operations.
    pub blocks: Vec<Block>,
}

impl Operation {
    /// The variable that the one argument of parameter `key` names.
    pub fn variable(&self, key: &str) -> Option<&str> {
        match self.inputs.get(key)?.as_slice() {
            [Argument::Name(name)] => Some(name),
            _ => None,
        }
    }

    /// The constant this `const` operation defines.
    pub fn constant(&self) -> Option<&Value> {
        if self.kind == "const" { self.attributes.get("val") } else { None }
    }
}

/// Operations in execution order.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Parameters of a nested block; empty for a function's body.
    pub inputs: Vec<NamedType>,
    /// Operations, each using only what stands before it.
    pub operations: Vec<Operation>,
    /// Names of the variables that leave the block.
    pub outputs: Vec<String>,
    /// Attributes.
    pub attributes: BTreeMap<String, Value>,
}

/// One entry point.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Opset as the protobuf spells it, such as `CoreML8`.
    pub opset: String,
    /// Parameters, states among them: in protobuf order, or by name if read from text.
    pub inputs: Vec<NamedType>,
    /// The body: the block specialization that `opset` names.
    pub block: Block,
    /// Attributes, such as flexible shape information.
    pub attributes: BTreeMap<String, Value>,
}

/// A whole ML Program.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// MIL version field of the protobuf (1 today).
    pub version: i64,
    /// Entry points by name.
    pub functions: BTreeMap<String, Function>,
    /// Attributes, `buildInfo` among them.
    pub attributes: BTreeMap<String, Value>,
}
