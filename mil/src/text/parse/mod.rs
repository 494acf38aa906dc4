//! MIL text → [`Program`]: a recursive-descent parser that looks at most two tokens ahead.

mod cursor;
mod value;

use std::collections::BTreeMap;

use self::cursor::Cursor;
use super::Dialect;
use super::error::{ParseError, ParseErrorKind};
use super::lex::Kind;
use crate::opset;
use crate::program::{Argument, Block, Function, NamedType, Operation, Program, Value};

/// MIL.proto's `Program.version` of every program that has a text form.
const PROGRAM_VERSION: i64 = 1;

/// Reads a program and the dialect it is written in.
///
/// Whitespace between tokens is free, so the result prints again to the same bytes only if the text has the
/// compiler's own layout. Names are not resolved: whether a variable is defined before its use is for whoever runs
/// the program.
pub fn parse(text: &str) -> Result<(Dialect, Program), ParseError> {
    let mut cursor = Cursor::new(text)?;
    let dialect = header(&mut cursor)?;
    let attributes = attributes(&mut cursor)?;
    cursor.expect(b'{', "`{`")?;
    let mut functions = BTreeMap::new();
    while !cursor.eat(b'}')? {
        let start = cursor.start();
        let (name, function) = function(&mut cursor)?;
        if functions.insert(name.to_owned(), function).is_some() {
            return Err(cursor.duplicate(start, "function", name));
        }
    }
    if cursor.kind() != Kind::End {
        return Err(cursor.expected("the end of the program"));
    }
    Ok((dialect, Program { version: PROGRAM_VERSION, functions, attributes }))
}

fn header(cursor: &mut Cursor<'_>) -> Result<Dialect, ParseError> {
    cursor.keyword("program", "`program`, which begins MIL text")?;
    cursor.expect(b'(', "`(`")?;
    let start = cursor.start();
    let version = cursor.number("a version such as 1.3")?;
    let dialect = match version {
        "1.0" => Dialect::V1_0,
        "1.3" => Dialect::V1_3,
        _ => return Err(cursor.error(start, ParseErrorKind::UnknownVersion(version.to_owned()))),
    };
    cursor.expect(b')', "`)`")?;
    Ok(dialect)
}

fn function<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a str, Function), ParseError> {
    cursor.keyword("func", "`func` or `}`")?;
    let name = cursor.word("a function's name")?;
    cursor.expect(b'<', "`<`")?;
    let start = cursor.start();
    let tag = cursor.word("an operator set such as ios18")?;
    let Some(opset) = opset::name_of(tag) else {
        return Err(cursor.error(start, ParseErrorKind::UnknownOpset(tag.to_owned())));
    };
    cursor.expect(b'>', "`>`")?;
    let inputs = parameters(cursor)?;
    let attributes = attributes(cursor)?;
    let (operations, outputs) = body(cursor)?;
    cursor.expect(b';', "`;`")?;
    let block = Block { inputs: Vec::new(), operations, outputs, attributes: BTreeMap::new() };
    Ok((name, Function { opset: opset.to_owned(), inputs, block, attributes }))
}

/// `(TYPE name, …)`
fn parameters(cursor: &mut Cursor<'_>) -> Result<Vec<NamedType>, ParseError> {
    cursor.expect(b'(', "`(`")?;
    cursor.separated(b')', "`,` or `)`", named_type)
}

fn named_type(cursor: &mut Cursor<'_>) -> Result<NamedType, ParseError> {
    let ty = cursor.value_type()?;
    Ok(NamedType { name: cursor.word("a variable's name")?.to_owned(), ty })
}

/// `{ operations } -> (names)`
fn body(cursor: &mut Cursor<'_>) -> Result<(Vec<Operation>, Vec<String>), ParseError> {
    cursor.expect(b'{', "`{`")?;
    let mut operations = Vec::new();
    while !cursor.eat(b'}')? {
        operations.push(operation(cursor)?);
    }
    if cursor.kind() != Kind::Arrow {
        return Err(cursor.expected("`->`"));
    }
    cursor.advance()?;
    cursor.expect(b'(', "`(`")?;
    let outputs = cursor.separated(b')', "`,` or `)`", |c| Ok(c.word("a variable's name")?.to_owned()))?;
    Ok((operations, outputs))
}

/// `TYPE a, TYPE b = kind(key = argument, …)[key = value, …] blocks;`
fn operation(cursor: &mut Cursor<'_>) -> Result<Operation, ParseError> {
    let mut outputs = Vec::new();
    // A call without results, such as `write_state(…)`, shows its parenthesis where a result's type shows `<` or a
    // name.
    if cursor.ahead() != Kind::Mark(b'(') {
        loop {
            outputs.push(named_type(cursor)?);
            if !cursor.eat(b',')? {
                break;
            }
        }
        cursor.expect(b'=', "`,` or `=`")?;
    }
    let kind = cursor.word("an operator's name")?.to_owned();
    cursor.expect(b'(', "`(`")?;
    let mut inputs = BTreeMap::new();
    cursor.separated(b')', "`,` or `)`", |cursor| {
        let start = cursor.start();
        let key = cursor.word("a parameter's name or `)`")?;
        cursor.expect(b'=', "`=`")?;
        if inputs.insert(key.to_owned(), arguments(cursor)?).is_some() {
            return Err(cursor.duplicate(start, "parameter", key));
        }
        Ok(())
    })?;
    let attributes = attributes(cursor)?;
    let mut blocks = Vec::new();
    while cursor.at(b'(') {
        blocks.push(cursor.nested(block)?);
    }
    cursor.expect(b';', "`;`")?;
    Ok(Operation { kind, inputs, outputs, attributes, blocks })
}

/// `(TYPE name, …) { operations } -> (names)`
fn block(cursor: &mut Cursor<'_>) -> Result<Block, ParseError> {
    let inputs = parameters(cursor)?;
    let (operations, outputs) = body(cursor)?;
    Ok(Block { inputs, operations, outputs, attributes: BTreeMap::new() })
}

/// One argument, or several in parentheses.
fn arguments(cursor: &mut Cursor<'_>) -> Result<Vec<Argument>, ParseError> {
    if cursor.eat(b'(')? {
        cursor.separated(b')', "`,` or `)`", argument)
    } else {
        Ok(vec![argument(cursor)?])
    }
}

fn argument(cursor: &mut Cursor<'_>) -> Result<Argument, ParseError> {
    if matches!(cursor.ahead(), Kind::Mark(b'(' | b'<')) {
        return cursor.value().map(Argument::Value);
    }
    Ok(Argument::Name(cursor.word("a variable or a value")?.to_owned()))
}

/// `[key = value, …]`, or nothing.
fn attributes(cursor: &mut Cursor<'_>) -> Result<BTreeMap<String, Value>, ParseError> {
    let mut attributes = BTreeMap::new();
    if cursor.eat(b'[')? {
        cursor.separated(b']', "`,` or `]`", |cursor| {
            let start = cursor.start();
            let key = cursor.word("an attribute's name or `]`")?;
            cursor.expect(b'=', "`=`")?;
            if attributes.insert(key.to_owned(), cursor.value()?).is_some() {
                return Err(cursor.duplicate(start, "attribute", key));
            }
            Ok(())
        })?;
    }
    Ok(attributes)
}
