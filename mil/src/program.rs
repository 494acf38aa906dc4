//! The one typed model of an ML Program.
//!
//! Both wire forms, the protobuf of an `.mlpackage` and the text of an `.mlmodelc`, read into these types and print
//! from them; the executor, the residency rules and the inspector know only these. Names are those of Core ML's
//! MIL specification (`MIL.proto`).

use std::collections::BTreeMap;

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DataType {
    /// Truth values.
    Bool,
    /// UTF-8 text.
    String,
    /// IEEE 754 binary16.
    Float16,
    /// IEEE 754 binary32.
    Float32,
    /// IEEE 754 binary64.
    Float64,
    /// bfloat16.
    BFloat16,
    /// Signed 4-bit integers, two a byte in a blob.
    Int4,
    /// Signed 8-bit integers.
    Int8,
    /// Signed 16-bit integers.
    Int16,
    /// Signed 32-bit integers.
    Int32,
    /// Signed 64-bit integers.
    Int64,
    /// Unsigned 1-bit integers, eight a byte in a blob.
    UInt1,
    /// Unsigned 2-bit integers.
    UInt2,
    /// Unsigned 3-bit integers.
    UInt3,
    /// Unsigned 4-bit integers.
    UInt4,
    /// Unsigned 6-bit integers.
    UInt6,
    /// Unsigned 8-bit integers.
    UInt8,
    /// Unsigned 16-bit integers.
    UInt16,
    /// Unsigned 32-bit integers.
    UInt32,
    /// Unsigned 64-bit integers.
    UInt64,
}

/// One extent of a tensor's shape, or the length of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Known when the program was written.
    Fixed(u64),
    /// Known only when the program runs; printed `?` (or `...` when `variadic`).
    Unknown {
        /// Stands for any number of extents.
        variadic: bool,
    },
}

/// What a variable holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A dense tensor; rank 0 is a scalar.
    Tensor {
        /// Element type.
        dtype: DataType,
        /// Extents, slowest first.
        shape: Vec<Dimension>,
    },
    /// Values of one type.
    List {
        /// Element type.
        element: Box<ValueType>,
        /// Number of elements.
        length: Dimension,
    },
    /// Values of several types.
    Tuple(Vec<ValueType>),
    /// Key type and value type.
    Dictionary(Box<ValueType>, Box<ValueType>),
    /// A buffer that outlives one prediction, such as a KV cache.
    State(Box<ValueType>),
}

/// A constant with its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Type, shape included.
    pub ty: ValueType,
    /// Content; the variant agrees with `ty`.
    pub literal: Literal,
}

/// The content of a [`Value`]. Tensors are flattened, last axis fastest.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// Elements of a bool tensor.
    Bool(Vec<bool>),
    /// Elements of any integer tensor, widened.
    Int(Vec<i64>),
    /// Elements of any floating-point tensor, widened (exact for fp16, bf16, fp32 and fp64).
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
    /// Parameters in protobuf order, states among them.
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
