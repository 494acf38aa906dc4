//! Types as MIL text writes them.

use std::fmt;

use super::Dialect;
use crate::program::{DataType, Dimension, ValueType};

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Unknown { variadic: false } => f.write_str("?"),
            Self::Unknown { variadic: true } => f.write_str("..."),
        }
    }
}

/// In the newer notation: a scalar is `fp16`, not `tensor<fp16, []>`.
impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_type(f, self, Dialect::V1_3)
    }
}

/// Writes `ty` as `dialect` spells it.
pub(super) fn write_type(out: &mut impl fmt::Write, ty: &ValueType, dialect: Dialect) -> fmt::Result {
    match ty {
        ValueType::Tensor { dtype, shape } if shape.is_empty() && dialect == Dialect::V1_3 => {
            out.write_str(dtype.name())
        }
        ValueType::Tensor { dtype, shape } => {
            write!(out, "tensor<{dtype}, [")?;
            for (axis, extent) in shape.iter().enumerate() {
                let comma = if axis == 0 { "" } else { ", " };
                write!(out, "{comma}{extent}")?;
            }
            out.write_str("]>")
        }
        ValueType::List { element, length } => {
            out.write_str("list<")?;
            write_type(out, element, dialect)?;
            write!(out, ", {length}>")
        }
        ValueType::Tuple(members) => {
            out.write_str("tuple<")?;
            for (index, member) in members.iter().enumerate() {
                out.write_str(if index == 0 { "" } else { ", " })?;
                write_type(out, member, dialect)?;
            }
            out.write_str(">")
        }
        ValueType::Dictionary(key, value) => {
            out.write_str("dict<")?;
            write_type(out, key, dialect)?;
            out.write_str(", ")?;
            write_type(out, value, dialect)?;
            out.write_str(">")
        }
        ValueType::State(inner) => {
            out.write_str("state<")?;
            write_type(out, inner, dialect)?;
            out.write_str(">")
        }
    }
}
