//! Values: a type, and in parentheses the literal.

use std::fmt::Write as _;

use super::super::{Dialect, MAX_DEPTH, MAX_RANK};
use super::{PrintErrorKind, Printer};
use crate::float;
use crate::program::{DataType, Dimension, Literal, Value, ValueType};

/// The most empty brackets a tensor without elements is written with.
const MAX_EMPTY_SLICES: u64 = 4096;

impl Printer {
    /// Refuses a type that [`parse`](super::super::parse()) would not read back, inside of `depth` others.
    pub(super) fn check_type(&self, ty: &ValueType, depth: usize) -> Result<(), PrintErrorKind> {
        let bare = matches!(ty, ValueType::Tensor { shape, .. } if shape.is_empty());
        if depth >= MAX_DEPTH && !(bare && self.dialect == Dialect::V1_3) {
            return Err(PrintErrorKind::TooDeep);
        }
        match ty {
            ValueType::Tensor { shape, .. } if shape.len() > MAX_RANK => Err(PrintErrorKind::RankTooHigh),
            ValueType::Tensor { .. } => Ok(()),
            ValueType::List { element: inner, .. } | ValueType::State(inner) => {
                self.check_type(inner, depth + 1)
            }
            ValueType::Tuple(members) => {
                members.iter().try_for_each(|member| self.check_type(member, depth + 1))
            }
            ValueType::Dictionary(key, value) => {
                self.check_type(key, depth + 1)?;
                self.check_type(value, depth + 1)
            }
        }
    }

    pub(super) fn value(&mut self, value: &Value) -> Result<(), PrintErrorKind> {
        self.value_type(&value.ty)?;
        self.out.push('(');
        self.literal(&value.ty, &value.literal)?;
        self.out.push(')');
        Ok(())
    }

    /// The literal of a value of type `ty`; the type is bounded in depth, and so is the literal that agrees with it.
    fn literal(&mut self, ty: &ValueType, literal: &Literal) -> Result<(), PrintErrorKind> {
        match (ty, literal) {
            (_, Literal::Blob { file, offset }) => self.blob_reference(file, *offset),
            (ValueType::Tensor { dtype, shape }, _) => self.tensor(ty, *dtype, shape, literal)?,
            (ValueType::List { element, length }, Literal::List(members))
                if length.fixed().is_none_or(|length| length == members.len() as u64) =>
            {
                self.out.push('[');
                for (index, member) in members.iter().enumerate() {
                    self.comma(index);
                    self.member(element, member)?;
                }
                self.out.push(']');
            }
            (ValueType::Tuple(types), Literal::Tuple(members)) if types.len() == members.len() => {
                self.out.push('(');
                for (index, (ty, member)) in types.iter().zip(members).enumerate() {
                    self.comma(index);
                    self.member(ty, member)?;
                }
                self.out.push(')');
            }
            (ValueType::Dictionary(key_type, value_type), Literal::Dictionary(entries)) => {
                self.out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    self.comma(index);
                    self.out.push('{');
                    self.member(key_type, key)?;
                    self.out.push_str(", ");
                    self.member(value_type, value)?;
                    self.out.push('}');
                }
                self.out.push('}');
            }
            _ => return Err(disagreement(ty, literal)),
        }
        Ok(())
    }

    /// A value inside another one, whose type says its type.
    fn member(&mut self, ty: &ValueType, member: &Value) -> Result<(), PrintErrorKind> {
        if member.ty != *ty {
            return Err(PrintErrorKind::Disagreement { ty: ty.to_string(), found: member.ty.to_string() });
        }
        self.literal(ty, &member.literal)
    }

    fn blob_reference(&mut self, file: &str, offset: u64) {
        let scalar = |dtype| ValueType::scalar(dtype);
        self.out.push_str("BLOBFILE(path = ");
        let _ = super::write_type(&mut self.out, &scalar(DataType::String), self.dialect);
        self.out.push('(');
        self.string(file);
        self.out.push_str("), offset = ");
        let _ = super::write_type(&mut self.out, &scalar(DataType::UInt64), self.dialect);
        let _ = write!(self.out, "({offset}))");
    }

    fn tensor(
        &mut self,
        ty: &ValueType,
        dtype: DataType,
        shape: &[Dimension],
        literal: &Literal,
    ) -> Result<(), PrintErrorKind> {
        match literal {
            Literal::Bool(elements) if dtype == DataType::Bool => {
                let extents = extents(ty, shape, elements.len())?;
                self.nest(&extents, elements, |printer, &element| {
                    printer.out.push_str(if element { "true" } else { "false" });
                });
            }
            Literal::String(elements) if dtype == DataType::String => {
                let extents = extents(ty, shape, elements.len())?;
                self.nest(&extents, elements, |printer, element| printer.string(element));
            }
            Literal::Float(elements) if dtype.is_float() => {
                let extents = extents(ty, shape, elements.len())?;
                self.nest(&extents, elements, |printer, &element| {
                    float::write_hex(&mut printer.out, element);
                });
            }
            Literal::Int(elements) if dtype == DataType::UInt64 => {
                let extents = extents(ty, shape, elements.len())?;
                self.nest(&extents, elements, |printer, &element| {
                    let _ = write!(printer.out, "{}", element as u64);
                });
            }
            Literal::Int(elements) => {
                let fits = |element: &i64| {
                    dtype
                        .integer_range()
                        .is_some_and(|(low, high)| (low..=high).contains(&i128::from(*element)))
                };
                if !elements.iter().all(fits) {
                    return Err(disagreement(ty, literal));
                }
                let extents = extents(ty, shape, elements.len())?;
                self.nest(&extents, elements, |printer, &element| {
                    let _ = write!(printer.out, "{element}");
                });
            }
            _ => return Err(disagreement(ty, literal)),
        }
        Ok(())
    }

    /// Writes `elements` nested as `extents` say; their product is the number of elements.
    fn nest<T>(&mut self, extents: &[u64], elements: &[T], one: impl Fn(&mut Self, &T) + Copy) {
        let Some((&extent, inner)) = extents.split_first() else {
            if let [element] = elements {
                one(self, element);
            }
            return;
        };
        self.out.push('[');
        let stride = elements.len().checked_div(extent as usize).unwrap_or(0);
        for index in 0..extent as usize {
            self.comma(index);
            let slice = elements.get(index * stride..(index + 1) * stride).unwrap_or_default();
            self.nest(inner, slice, one);
        }
        self.out.push(']');
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }
}

/// Extents that `count` elements of a tensor of `shape` are nested by; one unknown extent follows from the count.
fn extents(ty: &ValueType, shape: &[Dimension], count: usize) -> Result<Vec<u64>, PrintErrorKind> {
    let nesting = || PrintErrorKind::Nesting(ty.to_string());
    let known = shape.iter().filter_map(|extent| extent.fixed()).try_fold(1_u64, u64::checked_mul);
    let known = known.ok_or_else(nesting)?;
    let mut unknown = shape.iter().filter(|extent| extent.fixed().is_none());
    let inferred = match unknown.next() {
        Some(Dimension::Unknown { variadic: false }) if unknown.next().is_none() => {
            (count as u64).checked_div(known).unwrap_or(0)
        }
        Some(_) => return Err(nesting()),
        None => 1,
    };
    if known.checked_mul(inferred) != Some(count as u64) {
        let found = format!("{count} elements");
        return Err(PrintErrorKind::Disagreement { ty: ty.to_string(), found });
    }
    let extents: Vec<_> = shape.iter().map(|extent| extent.fixed().unwrap_or(inferred)).collect();
    let outer = extents.iter().take_while(|&&extent| extent != 0).try_fold(1_u64, |n, &e| n.checked_mul(e));
    if count == 0 && outer.is_none_or(|slices| slices > MAX_EMPTY_SLICES) {
        return Err(nesting());
    }
    Ok(extents)
}

fn disagreement(ty: &ValueType, literal: &Literal) -> PrintErrorKind {
    let found = match literal {
        Literal::Bool(_) => "truth values",
        Literal::Int(_) => "integers",
        Literal::Float(_) => "floating-point numbers",
        Literal::String(_) => "strings",
        Literal::Tuple(_) => "a tuple",
        Literal::List(_) => "a list",
        Literal::Dictionary(_) => "a dictionary",
        Literal::Blob { .. } => "a blob",
    };
    PrintErrorKind::Disagreement { ty: ty.to_string(), found: found.to_owned() }
}
