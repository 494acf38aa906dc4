//! What can be wrong with MIL text, and where.

use thiserror::Error;

use super::{MAX_DEPTH, MAX_RANK};
use crate::float::FloatError;
use crate::program::DataType;

/// MIL text that cannot be read, with the place of the fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}, column {column} (byte {offset}): {kind}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Bytes before the fault.
    pub offset: usize,
    /// The fault.
    pub kind: ParseErrorKind,
}

/// A fault in MIL text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The bytes are not UTF-8.
    #[error("not UTF-8; the file is damaged, or no MIL text")]
    NotUtf8,
    /// Something else belongs here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What belongs here.
        expected: &'static str,
        /// What stands here.
        found: String,
    },
    /// A character that begins no token.
    #[error("the character {0:?} has no meaning in MIL text")]
    UnknownCharacter(char),
    /// A string without its closing quote.
    #[error("the string that begins here has no closing quote")]
    UnterminatedString,
    /// A backslash before a character that needs none.
    #[error("`\\{0}` is not an escape; those known are \\\\ \\\" \\n \\r \\t")]
    UnknownEscape(char),
    /// A header other than `program(1.0)` and `program(1.3)`.
    #[error("text version {0} is unknown; known are 1.0 and 1.3. Recompile the model with a known compiler")]
    UnknownVersion(String),
    /// A type that does not exist.
    #[error("`{0}` is not a type")]
    UnknownType(String),
    /// An operator set that does not exist.
    #[error("`{0}` is not a known operator set (ios15, ios16, ios17, ios18, ios26)")]
    UnknownOpset(String),
    /// A literal that is no floating-point number.
    #[error("`{literal}`: {reason}")]
    Float {
        /// As written.
        literal: String,
        /// Why it is refused.
        reason: FloatError,
    },
    /// A literal that is no integer, or does not fit its type.
    #[error("`{literal}` is not a {dtype} integer")]
    Integer {
        /// As written.
        literal: String,
        /// The type it should fit.
        dtype: DataType,
    },
    /// A tensor's literal disagrees with its shape.
    #[error("axis {axis} of this tensor holds {found} elements, its type says {expected}")]
    Extent {
        /// Axis, slowest first.
        axis: usize,
        /// Extent in the type, or of the first slice of an axis of unknown extent.
        expected: u64,
        /// Elements written.
        found: u64,
    },
    /// A list's or tuple's literal disagrees with its type.
    #[error("{found} members are written here, the type says {expected}")]
    Length {
        /// Members the type has.
        expected: u64,
        /// Members written.
        found: u64,
    },
    /// A name is defined twice in one place.
    #[error("{what} `{name}` is given twice")]
    Duplicate {
        /// Kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Types, values or blocks nest deeper than any compiler writes.
    #[error("nested deeper than {MAX_DEPTH} levels; no compiler writes this, the file is damaged")]
    TooDeep,
    /// A shape of too many axes.
    #[error("a tensor of more than {MAX_RANK} axes; Core ML allows 5, the file is damaged")]
    RankTooHigh,
    /// A value in a type that has no literals.
    #[error("a value of type {0} cannot be written")]
    NoLiteral(String),
}

impl ParseError {
    /// A fault `offset` bytes into `text`.
    pub(crate) fn at(text: &str, offset: usize, kind: ParseErrorKind) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        Self { line, column, offset: before.len(), kind }
    }
}
