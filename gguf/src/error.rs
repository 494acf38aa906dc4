//! What can go wrong, each with its place: the file, and the byte, key or tensor in it.

use std::{io, ops::Range, path::PathBuf};

use thiserror::Error;

use crate::TensorType;

/// Why a GGUF file, or something in it, cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The operating system refused the file.
    #[error("cannot open {} as GGUF: {source}", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory, device or pipe stands where a file should be.
    #[error("cannot open {} as GGUF: it is {found}, not a file; give the path of a .gguf file", file.display())]
    NotAFile {
        /// The path given.
        file: PathBuf,
        /// What it is: "a directory", or "a device or pipe".
        found: &'static str,
    },
    /// The bytes break the format.
    #[error("cannot read {} as GGUF: at byte {offset}, {problem}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where in the file the trouble is, counted from its first byte.
        offset: u64,
        /// What is wrong there.
        problem: Box<Malformed>,
    },
    /// The files of a split model do not fit together.
    #[error("cannot open {} as one of a split model: {problem}", file.display())]
    Split {
        /// The file at fault.
        file: PathBuf,
        /// What does not fit.
        problem: Box<SplitProblem>,
    },
    /// A metadata key that was asked for is not in the file.
    #[error("{} has no metadata key {key:?}", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// The key asked for.
        key: String,
    },
    /// A metadata key holds something other than what was asked for.
    #[error("metadata key {key:?} of {} should hold {expected}, but holds {found}", file.display())]
    WrongType {
        /// The file.
        file: PathBuf,
        /// The key asked for.
        key: String,
        /// What was asked for, such as "a uint32".
        expected: &'static str,
        /// What is there; for a number that does not fit, the number too.
        found: String,
    },
    /// Weights of a type that this crate can list but not decode.
    #[error("cannot dequantize tensor {tensor:?} of {}: no kernel for {dtype}; convert the model to Q8_0, F16 or a K type", file.display())]
    NoKernel {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: TensorType,
    },
    /// A range of rows that the tensor does not have.
    #[error("cannot read rows {}..{} of tensor {tensor:?} of {}: it has {available} rows", rows.start, rows.end, file.display())]
    NoSuchRows {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The rows asked for.
        rows: Range<u64>,
        /// The rows there are.
        available: u64,
    },
    /// An output slice whose length is not rows × row length.
    #[error("cannot dequantize tensor {tensor:?} of {}: the rows asked for are {needed} weights, the output has room for {given}", file.display())]
    OutputLength {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Weights in the rows asked for.
        needed: u64,
        /// Length of the slice given.
        given: u64,
    },
}

impl GgufError {
    /// Whether this says that a metadata key is absent, as against present and wrong.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// How bytes break the format.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A file of no bytes.
    #[error("the file is empty; fetch or copy it again")]
    Empty,
    /// The first four bytes are not `GGUF`.
    #[error("the file starts with \"{}\" where \"GGUF\" should stand; it is not a GGUF file", found.escape_ascii())]
    WrongMagic {
        /// What stands there.
        found: [u8; 4],
    },
    /// A big-endian file.
    #[error(
        "the file is big-endian, and only little-endian files are read; convert it with gguf-py's gguf-convert-endian"
    )]
    BigEndian,
    /// A version other than 2 and 3.
    #[error(
        "the file is GGUF version {version}, and only versions 2 and 3 are read; convert the model again with a current tool"
    )]
    UnsupportedVersion {
        /// The version it says.
        version: u32,
    },
    /// The file ends too early.
    #[error(
        "the file ends in {reading}: {needed} bytes are needed and {left} are left; fetch or copy the file again"
    )]
    Truncated {
        /// What was being read.
        reading: String,
        /// Bytes that should follow.
        needed: u64,
        /// Bytes that do.
        left: u64,
    },
    /// A count that the bytes left cannot hold.
    #[error(
        "{reading} claims {claimed} entries, and the bytes left hold at most {at_most}; the file is damaged or cut short"
    )]
    Claim {
        /// What makes the claim.
        reading: String,
        /// The count in the file.
        claimed: u64,
        /// The most that the rest of the file could hold.
        at_most: u64,
    },
    /// Text that is not UTF-8.
    #[error("{reading} is not UTF-8 text; the file is damaged")]
    NotUtf8 {
        /// What was being read.
        reading: String,
    },
    /// A value type number that the format does not define.
    #[error(
        "{reading} has value type {id}, which GGUF does not define; the file is damaged or newer than this reader"
    )]
    UnknownValueType {
        /// What was being read.
        reading: String,
        /// The number in the file.
        id: u32,
    },
    /// A bool that is neither 0 nor 1.
    #[error("{reading} should be a bool, 0 or 1, and is {found}; the file is damaged")]
    NotBool {
        /// What was being read.
        reading: String,
        /// The byte in the file.
        found: u8,
    },
    /// Arrays within arrays, deeper than anything uses.
    #[error("{reading} has arrays more than {limit} deep; the file is damaged")]
    NestedTooDeep {
        /// What was being read.
        reading: String,
        /// The depth allowed.
        limit: u32,
    },
    /// A metadata key that stands twice.
    #[error("metadata key {key:?} stands in the file twice; write the file again with one")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A tensor name that stands twice.
    #[error("tensor {tensor:?} stands in the file twice; write the file again with one")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// `general.alignment` is not a power of two.
    #[error(
        "metadata key \"general.alignment\" is {found}, and an alignment is a power of two that fits 32 bits"
    )]
    BadAlignment {
        /// The value in the file, with its type.
        found: String,
    },
    /// A tensor of no dimensions, or of more than four.
    #[error("tensor {tensor:?} has {count} dimensions, and a tensor has 1 to 4")]
    DimensionCount {
        /// The tensor.
        tensor: String,
        /// The count in the file.
        count: u32,
    },
    /// A dimension of zero.
    #[error("tensor {tensor:?} has dimension {axis} of length 0")]
    ZeroDimension {
        /// The tensor.
        tensor: String,
        /// Which dimension, counted from 0, the fastest.
        axis: usize,
    },
    /// More weights or bytes than 64 bits count.
    #[error("tensor {tensor:?} of dimensions {dims:?} is larger than 64 bits can count; the file is damaged")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// The dimensions in the file, fastest first.
        dims: Vec<u64>,
    },
    /// A row that ends within a block.
    #[error("tensor {tensor:?} has rows of {row_len} weights, and {dtype} packs weights by {block_len}")]
    RowNotBlocks {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: TensorType,
        /// Weights in a row.
        row_len: u64,
        /// Weights in a block.
        block_len: u64,
    },
    /// A tensor that starts off the alignment.
    #[error(
        "tensor {tensor:?} starts {start} bytes into the data, which is not a multiple of the alignment {alignment}"
    )]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Its offset from the start of the data section.
        start: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// A tensor whose data reaches past the end of the file.
    #[error(
        "tensor {tensor:?} needs {bytes} bytes from there on, and the file ends at byte {file_len}; fetch or copy the file again"
    )]
    OutOfRange {
        /// The tensor.
        tensor: String,
        /// Bytes of data it has by its shape and type.
        bytes: u64,
        /// Length of the file.
        file_len: u64,
    },
    /// Two tensors that share bytes.
    #[error("tensor {tensor:?} starts within the data of tensor {other:?}; the file is damaged")]
    Overlap {
        /// The later tensor.
        tensor: String,
        /// The one it lies in.
        other: String,
    },
}

/// How the files of a split model fail to fit together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SplitProblem {
    /// The file says that it is one of several, and its name does not say which.
    #[error("it is part {} of {count}, and its name does not end in \"{expected}\", so the other parts cannot be found; give it back its name", no + 1)]
    Name {
        /// The part that it is, counted from 0 (`split.no`).
        no: u64,
        /// How many there are (`split.count`).
        count: u64,
        /// How its name should end.
        expected: String,
    },
    /// A part says that it is another part, or of another number of parts.
    #[error("metadata key {key:?} is {found} where {expected} is due; the parts are mixed up")]
    Disagrees {
        /// The key.
        key: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The parts do not hold the number of tensors promised.
    #[error(
        "the parts hold {found} tensors, and \"split.tensors.count\" promises {promised}; a part is missing or of another model"
    )]
    TensorCount {
        /// What the first part promises.
        promised: u64,
        /// What there is.
        found: u64,
    },
    /// A tensor that stands in two parts.
    #[error("tensor {tensor:?} stands in {} too; the parts are mixed up", other.display())]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
        /// The other part that has it.
        other: PathBuf,
    },
    /// A part of a split model in memory, where no other part can be found.
    #[error("it is one of {count} parts, which can only be opened from files")]
    InMemory {
        /// How many there are.
        count: u64,
    },
}

/// A fault at a byte, before it is known in which file.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) offset: u64,
    pub(crate) problem: Malformed,
}

impl Fault {
    pub(crate) fn in_file(self, file: &std::path::Path) -> GgufError {
        GgufError::Malformed { file: file.to_owned(), offset: self.offset, problem: Box::new(self.problem) }
    }
}
