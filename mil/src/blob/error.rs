//! What can be wrong with a weight file.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A weight file that cannot be read, or does not hold what a program says.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The operating system refused; the message names the path.
    #[error("opening a weight file: {0}")]
    Io(#[from] io::Error),
    /// A blob reference leads out of the model, or to a file the program never refers to.
    #[error(
        "{}: the program's weight file `{file}` is not one below `@model_path/`, the model's own directory",
        path.display()
    )]
    Outside {
        /// The model.
        path: PathBuf,
        /// As the program has it.
        file: String,
    },
    /// A directory, or something else that is no file.
    #[error("{}: a weight file is expected here, this is none", path.display())]
    NotAFile {
        /// What was opened.
        path: PathBuf,
    },
    /// Not even a header.
    #[error("{}: {len} bytes are too few for a weight file's header of 64; the file is cut off", path.display())]
    TooShort {
        /// The weight file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// No weight file, or one of another format.
    #[error(
        "{}: weight file version {version} (byte 4), only 2 is known; the file is damaged or no weight file",
        path.display()
    )]
    Version {
        /// The weight file.
        path: PathBuf,
        /// What the header says.
        version: u32,
    },
    /// A program points to a place where no record can be.
    #[error(
        "{}: no blob record can lie at byte {offset} (a multiple of 64 between 64 and {len}); \
         program and weights do not belong together, or the file is cut off",
        path.display()
    )]
    RecordOutOfRange {
        /// The weight file.
        path: PathBuf,
        /// Where the record should be.
        offset: u64,
        /// The file's length in bytes.
        len: u64,
    },
    /// A program points to something that is no record.
    #[error(
        "{}: no blob record at byte {offset}: it begins with {found:#010x}, not 0xdeadbeef; \
         program and weights do not belong together",
        path.display()
    )]
    NoRecord {
        /// The weight file.
        path: PathBuf,
        /// Where the record should be.
        offset: u64,
        /// What is there.
        found: u32,
    },
    /// A record's element type is unknown.
    #[error("{}: the blob record at byte {offset} has the unknown element type {code}", path.display())]
    UnknownType {
        /// The weight file.
        path: PathBuf,
        /// Offset of the record.
        offset: u64,
        /// What it says.
        code: u32,
    },
    /// A record's data do not lie in the file.
    #[error(
        "{}: the blob record at byte {offset} says {size} bytes of data at byte {start}; the file has {len} bytes and \
         data begin at a multiple of 64. The file is damaged or cut off",
        path.display()
    )]
    DataOutOfRange {
        /// The weight file.
        path: PathBuf,
        /// Offset of the record.
        offset: u64,
        /// Where the data should begin.
        start: u64,
        /// Bytes of data.
        size: u64,
        /// The file's length in bytes.
        len: u64,
    },
    /// A record claims more unused bits than a byte has.
    #[error("{}: the blob record at byte {offset} claims {bits} unused bits, at most 7 can be", path.display())]
    Padding {
        /// The weight file.
        path: PathBuf,
        /// Offset of the record.
        offset: u64,
        /// What it says.
        bits: u64,
    },
    /// A blob is not of the type the program gives it.
    #[error(
        "{}: the blob at byte {offset} holds {found}, the program says {expected}; \
         program and weights do not belong together",
        path.display()
    )]
    Mismatch {
        /// The weight file.
        path: PathBuf,
        /// Offset of the record.
        offset: u64,
        /// Type and bytes in the file.
        found: String,
        /// Type and bytes in the program.
        expected: String,
    },
}
