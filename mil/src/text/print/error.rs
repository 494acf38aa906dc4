//! Programs that have no text form.

use thiserror::Error;

use super::super::{MAX_DEPTH, MAX_RANK};

/// A program that has no text form, with the place of the fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("writing MIL text, {place}: {kind}")]
pub struct PrintError {
    /// Function and operation.
    pub place: String,
    /// The fault.
    pub kind: PrintErrorKind,
}

/// Why something has no text form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PrintErrorKind {
    /// A name that would not read back as one.
    #[error(
        "`{0}` is no identifier (letters, digits, `_` and `@`, not beginning with a digit or `@`); \
         rename it where the model is made"
    )]
    NotAnIdentifier(String),
    /// An operator set that text has no tag for.
    #[error("the operator set `{0}` is unknown; known are CoreML5 to CoreML9")]
    UnknownOpset(String),
    /// Attributes of a block, or inputs of a function's body.
    #[error("a block with attributes, or a function's body with inputs of its own, has no text form")]
    BlockExtras,
    /// A literal that disagrees with its type.
    #[error("a literal of {found} disagrees with its type {ty}")]
    Disagreement {
        /// The type.
        ty: String,
        /// What the literal is.
        found: String,
    },
    /// A tensor of no elements whose brackets would be endless, or of several unknown extents.
    #[error("a literal of type {0} cannot be written: its shape does not say how its elements are nested")]
    Nesting(String),
    /// Types, values or blocks nest too deep.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A shape of too many axes.
    #[error("a tensor of more than {MAX_RANK} axes; Core ML allows 5")]
    RankTooHigh,
}

impl PrintErrorKind {
    pub(super) fn at(self, place: impl Into<String>) -> PrintError {
        PrintError { place: place.into(), kind: self }
    }
}
