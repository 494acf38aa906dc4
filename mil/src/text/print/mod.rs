//! [`Program`] → MIL text, byte for byte as Apple's compiler lays it out.
//!
//! Seen in Apple's compiled programs: headers, functions, operations, attributes, tensors, scalars in both dialects,
//! strings, dictionaries, blob references, several arguments. Not seen in one, and chosen here so that
//! [`parse`](super::parse()) reads them back: string escapes, `nan`, blocks of control flow, lists and tuples outside
//! of shape information, variadic extents, the order of several functions (by name). States print as any other type
//! and operation.

mod error;
mod value;

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub use error::{PrintError, PrintErrorKind};

use super::lex::is_word_byte;
use super::notation::write_type;
use super::{Dialect, MAX_DEPTH};
use crate::opset;
use crate::program::{Argument, Block, Function, NamedType, Operation, Program, Value, ValueType};

/// Columns the operations of a function stand in from the left.
const OPERATION_INDENT: usize = 12;

/// Columns `}` stands left of its operations.
const CLOSING_OUTDENT: usize = 4;

/// Columns the operations of a block stand right of the operation that owns it.
const BLOCK_INDENT: usize = 12;

/// Writes `program` in `dialect`, without a newline at its end.
///
/// Parameters, arguments and attributes are ordered by name, as the compiler orders them. A program that has no text
/// form (a name that is no identifier, a literal that disagrees with its type, a nested value without literals) is
/// refused.
pub fn print(program: &Program, dialect: Dialect) -> Result<String, PrintError> {
    let mut printer = Printer { out: String::new(), dialect, depth: 0 };
    printer.program(program)?;
    Ok(printer.out)
}

struct Printer {
    out: String,
    dialect: Dialect,
    /// Blocks around what is being written.
    depth: usize,
}

impl Printer {
    fn program(&mut self, program: &Program) -> Result<(), PrintError> {
        let _ = writeln!(self.out, "program({})", self.dialect.version());
        if !program.attributes.is_empty() {
            self.attributes(&program.attributes).map_err(|kind| kind.at("the program's attributes"))?;
            self.out.push('\n');
        }
        self.out.push_str("{\n");
        for (name, function) in &program.functions {
            self.function(name, function)?;
        }
        self.out.push('}');
        Ok(())
    }

    fn function(&mut self, name: &str, function: &Function) -> Result<(), PrintError> {
        self.signature(name, function).map_err(|kind| kind.at(format!("function `{name}`")))?;
        for operation in &function.block.operations {
            self.operation(operation, OPERATION_INDENT).map_err(|kind| kind.at(place_of(name, operation)))?;
        }
        self.closing(&function.block.outputs, OPERATION_INDENT)
            .map_err(|kind| kind.at(format!("function `{name}`")))?;
        self.out.push_str(";\n");
        Ok(())
    }

    fn signature(&mut self, name: &str, function: &Function) -> Result<(), PrintErrorKind> {
        let tag = opset::tag_of(&function.opset)
            .ok_or_else(|| PrintErrorKind::UnknownOpset(function.opset.clone()))?;
        if !function.block.inputs.is_empty() || !function.block.attributes.is_empty() {
            return Err(PrintErrorKind::BlockExtras);
        }
        self.out.push_str("    func ");
        self.name(name)?;
        let _ = write!(self.out, "<{tag}>(");
        let mut inputs: Vec<_> = function.inputs.iter().collect();
        inputs.sort_by(|a, b| a.name.cmp(&b.name));
        self.named_types(inputs)?;
        self.out.push(')');
        if !function.attributes.is_empty() {
            self.out.push(' ');
            self.attributes(&function.attributes)?;
        }
        self.out.push_str(" {\n");
        Ok(())
    }

    fn closing(&mut self, outputs: &[String], indent: usize) -> Result<(), PrintErrorKind> {
        self.indent(indent - CLOSING_OUTDENT);
        self.out.push_str("} -> (");
        for (index, output) in outputs.iter().enumerate() {
            self.comma(index);
            self.name(output)?;
        }
        self.out.push(')');
        Ok(())
    }

    fn operation(&mut self, operation: &Operation, indent: usize) -> Result<(), PrintErrorKind> {
        self.indent(indent);
        if !operation.outputs.is_empty() {
            self.named_types(&operation.outputs)?;
            self.out.push_str(" = ");
        }
        self.name(&operation.kind)?;
        self.out.push('(');
        for (index, (key, arguments)) in operation.inputs.iter().enumerate() {
            self.comma(index);
            self.name(key)?;
            self.out.push_str(" = ");
            self.arguments(arguments)?;
        }
        self.out.push(')');
        if !operation.attributes.is_empty() {
            self.attributes(&operation.attributes)?;
        }
        for block in &operation.blocks {
            if self.depth == MAX_DEPTH {
                return Err(PrintErrorKind::TooDeep);
            }
            self.depth += 1;
            self.block(block, indent)?;
            self.depth -= 1;
        }
        self.out.push_str(";\n");
        Ok(())
    }

    fn block(&mut self, block: &Block, indent: usize) -> Result<(), PrintErrorKind> {
        if !block.attributes.is_empty() {
            return Err(PrintErrorKind::BlockExtras);
        }
        self.out.push('\n');
        self.indent(indent + BLOCK_INDENT - 2 * CLOSING_OUTDENT);
        self.out.push('(');
        self.named_types(&block.inputs)?;
        self.out.push_str(") {\n");
        for operation in &block.operations {
            self.operation(operation, indent + BLOCK_INDENT)?;
        }
        self.closing(&block.outputs, indent + BLOCK_INDENT)
    }

    fn arguments(&mut self, arguments: &[Argument]) -> Result<(), PrintErrorKind> {
        if let [argument] = arguments {
            return self.argument(argument);
        }
        self.out.push('(');
        for (index, argument) in arguments.iter().enumerate() {
            self.comma(index);
            self.argument(argument)?;
        }
        self.out.push(')');
        Ok(())
    }

    fn argument(&mut self, argument: &Argument) -> Result<(), PrintErrorKind> {
        match argument {
            Argument::Name(name) => self.name(name),
            Argument::Value(value) => self.value(value),
        }
    }

    fn attributes(&mut self, attributes: &BTreeMap<String, Value>) -> Result<(), PrintErrorKind> {
        self.out.push('[');
        for (index, (key, value)) in attributes.iter().enumerate() {
            self.comma(index);
            self.name(key)?;
            self.out.push_str(" = ");
            self.value(value)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn named_types<'a>(
        &mut self,
        variables: impl IntoIterator<Item = &'a NamedType>,
    ) -> Result<(), PrintErrorKind> {
        for (index, variable) in variables.into_iter().enumerate() {
            self.comma(index);
            self.value_type(&variable.ty)?;
            self.out.push(' ');
            self.name(&variable.name)?;
        }
        Ok(())
    }

    fn value_type(&mut self, ty: &ValueType) -> Result<(), PrintErrorKind> {
        self.check_type(ty, self.depth)?;
        let _ = write_type(&mut self.out, ty, self.dialect);
        Ok(())
    }

    /// Names must be `[A-Za-z_][A-Za-z0-9_@]*` (MIL.proto).
    fn name(&mut self, name: &str) -> Result<(), PrintErrorKind> {
        let bytes = name.as_bytes();
        let letter = bytes.first().is_some_and(|&b| b.is_ascii_alphabetic() || b == b'_');
        if !letter || !bytes.iter().all(|&b| is_word_byte(b)) {
            return Err(PrintErrorKind::NotAnIdentifier(name.to_owned()));
        }
        self.out.push_str(name);
        Ok(())
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.out.push_str(", ");
        }
    }

    fn indent(&mut self, columns: usize) {
        self.out.extend(std::iter::repeat_n(' ', columns));
    }
}

/// Where an operation is, for messages.
fn place_of(function: &str, operation: &Operation) -> String {
    let kind = &operation.kind;
    match operation.outputs.first() {
        Some(output) => format!("function `{function}`, operation `{kind}` that defines `{}`", output.name),
        None => format!("function `{function}`, operation `{kind}`"),
    }
}
