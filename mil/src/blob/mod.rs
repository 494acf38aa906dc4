//! Weight files: `weight.bin`, MIL blob storage version 2.
//!
//! Little-endian. A header of 64 bytes {u32 count, u32 version = 2, zeros}; then per blob a record of 64 bytes {u32
//! 0xDEADBEEF, u32 element type, u64 bytes of data, u64 offset of data, u64 unused bits at the end, zeros} and the
//! data, each at a multiple of 64. The file ends with the last blob's data. A program refers to a blob by the offset
//! of its record. Source: `MILBlob` in coremltools.

mod error;
mod layout;
mod read;
mod stream;
mod write;

pub use error::BlobError;
pub use layout::{BlobSpec, LayoutError, LayoutErrorKind, WeightLayout};
pub use read::{Blob, WeightFile};
pub use write::{WeightWriteError, WeightWriter};

/// Everything in a weight file begins at a multiple of this.
pub const ALIGNMENT: u64 = 64;

/// Bytes of the header, and of each record.
pub const RECORD_BYTES: u64 = 64;

/// The header's version field.
const VERSION: u32 = 2;

/// The first field of a record.
const SENTINEL: u32 = 0xDEAD_BEEF;
