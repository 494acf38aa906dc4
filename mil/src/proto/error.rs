//! What can be wrong with a model's protobuf.

use thiserror::Error;

use crate::text::MAX_RANK;

/// A protobuf that is no ML Program, with the place of the fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {kind}")]
pub struct ProtoError {
    /// Function, operation and parameter.
    pub place: String,
    /// The fault.
    pub kind: ProtoErrorKind,
}

/// A fault in a model's protobuf.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtoErrorKind {
    /// The bytes do not decode.
    #[error("the protobuf is damaged or cut off: {0}")]
    Damaged(String),
    /// The file's outermost fields do not fit together.
    #[error("the protobuf is damaged or cut off at byte {0}")]
    DamagedAt(usize),
    /// Another kind of model.
    #[error("this is {0}, not an ML Program; convert it with convert_to=\"mlprogram\"")]
    NotAnMlProgram(&'static str),
    /// A version of the program's format other than 1.
    #[error("MIL version {0} is unknown; only 1 is known")]
    UnknownVersion(i64),
    /// The function's operator set has no body.
    #[error("the operator set `{0}` has no block; the model is damaged")]
    NoBlock(String),
    /// A field without which the rest has no meaning.
    #[error("{0} is missing; the model is damaged")]
    Missing(&'static str),
    /// An element type that MIL does not have.
    #[error("element type {0} is unknown")]
    UnknownType(i32),
    /// A shape of too many axes, or a rank that disagrees with the shape.
    #[error("rank {rank} with {extents} extents; both must agree, and be at most {MAX_RANK}")]
    Rank {
        /// What the type says.
        rank: i64,
        /// How many extents it lists.
        extents: usize,
    },
    /// Something this reader would drop.
    #[error("{0} are not supported")]
    Unsupported(&'static str),
    /// An inline value stored in a field that does not fit its type.
    #[error("a value of type {ty} is stored as {found}")]
    Storage {
        /// The value's type.
        ty: String,
        /// The field it is stored in.
        found: &'static str,
    },
    /// An inline value with too few or too many elements.
    #[error("a value of type {ty} has {found} elements")]
    Count {
        /// The value's type.
        ty: String,
        /// Elements stored.
        found: usize,
    },
    /// An integer that its type cannot hold.
    #[error("{value} does not fit {ty}")]
    Range {
        /// The value's type.
        ty: String,
        /// The integer.
        value: i64,
    },
}

impl ProtoErrorKind {
    pub(super) fn at(self, place: impl Into<String>) -> ProtoError {
        ProtoError { place: place.into(), kind: self }
    }
}
