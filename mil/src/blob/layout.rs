//! Where the blobs of a weight file lie.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{ALIGNMENT, RECORD_BYTES};
use crate::program::{DataType, ValueType};

/// One blob of a weight file that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobSpec {
    /// What messages call it.
    pub name: String,
    /// Element type.
    pub dtype: DataType,
    /// Extents.
    pub shape: Vec<u64>,
    /// Byte offset of its record, which the program refers to.
    pub record: u64,
    /// Byte offset of its data.
    pub data: u64,
    /// Bytes of data.
    pub size: u64,
}

/// The blobs of a weight file; their places fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightLayout {
    blobs: Vec<BlobSpec>,
    len: u64,
}

/// A table of blobs that is no weight file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("laying out a weight file, blob `{name}`: {kind}")]
pub struct LayoutError {
    /// The blob.
    pub name: String,
    /// What is wrong.
    pub kind: LayoutErrorKind,
}

/// Why a blob cannot lie where a table says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutErrorKind {
    /// Elements of this type cannot lie in a weight file.
    #[error("elements of type {0} cannot lie in a weight file")]
    NoBlobType(DataType),
    /// The size is not that of the elements.
    #[error("{size} bytes are given, its type and shape need {needed}")]
    Size {
        /// As given.
        size: u64,
        /// What the elements need; the product may be too large to say.
        needed: String,
    },
    /// A record or its data do not begin at a multiple of 64, or begin in the header.
    #[error(
        "its record at byte {record} and its data at byte {data} must begin at multiples of 64, from 64 on"
    )]
    Alignment {
        /// Offset of the record.
        record: u64,
        /// Offset of the data.
        data: u64,
    },
    /// Two blobs share bytes.
    #[error("its bytes overlap those of `{other}`")]
    Overlap {
        /// The other blob.
        other: String,
    },
    /// The file would be larger than any.
    #[error("it would end beyond the largest file offset")]
    TooLarge,
    /// More blobs than the header can count.
    #[error("more blobs than a weight file can count (4294967295)")]
    TooMany,
}

impl WeightLayout {
    /// Checks a table of blobs: sizes, alignment, no overlap. The order is that of the table.
    pub fn new(blobs: Vec<BlobSpec>) -> Result<Self, LayoutError> {
        let mut occupied: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        let mut len = RECORD_BYTES;
        for (index, blob) in blobs.iter().enumerate() {
            let refuse = |kind| LayoutError { name: blob.name.clone(), kind };
            if index >= u32::MAX as usize {
                return Err(refuse(LayoutErrorKind::TooMany));
            }
            blob.check().map_err(refuse)?;
            for (start, size) in [(blob.record, RECORD_BYTES), (blob.data, blob.size)] {
                let end = start.checked_add(size).filter(|&end| i64::try_from(end).is_ok());
                let end = end.ok_or_else(|| refuse(LayoutErrorKind::TooLarge))?;
                len = len.max(end);
                if size == 0 {
                    continue;
                }
                let neighbour =
                    occupied.range(..end).next_back().filter(|(_, (other_end, _))| *other_end > start);
                if let Some((_, (_, other))) = neighbour {
                    let other = blobs.get(*other).map_or_else(String::new, |other| other.name.clone());
                    return Err(refuse(LayoutErrorKind::Overlap { other }));
                }
                occupied.insert(start, (end, index));
            }
        }
        Ok(Self { blobs, len })
    }

    /// Lays out tensors one behind the other, as coremltools does.
    pub fn packed(
        tensors: impl IntoIterator<Item = (String, DataType, Vec<u64>)>,
    ) -> Result<Self, LayoutError> {
        let mut end = RECORD_BYTES;
        let blobs = tensors.into_iter().map(|(name, dtype, shape)| {
            let refuse = |kind| LayoutError { name: name.clone(), kind };
            if dtype.blob_code().is_none() {
                return Err(refuse(LayoutErrorKind::NoBlobType(dtype)));
            }
            let size = ValueType::tensor(dtype, &shape).byte_len();
            let size = size.ok_or_else(|| refuse(LayoutErrorKind::TooLarge))?;
            let record = end.checked_next_multiple_of(ALIGNMENT);
            let data = record.and_then(|record| record.checked_add(RECORD_BYTES));
            let data_end = data.and_then(|data| data.checked_add(size));
            match (record, data, data_end) {
                (Some(record), Some(data), Some(data_end)) => {
                    end = data_end;
                    Ok(BlobSpec { name, dtype, shape, record, data, size })
                }
                _ => Err(refuse(LayoutErrorKind::TooLarge)),
            }
        });
        Self::new(blobs.collect::<Result<_, _>>()?)
    }

    /// The blobs, in the table's order.
    pub fn blobs(&self) -> &[BlobSpec] {
        &self.blobs
    }

    /// Length of the file in bytes: where the last blob's data end, for nothing is padded behind them.
    pub fn file_len(&self) -> u64 {
        self.len
    }
}

impl BlobSpec {
    fn check(&self) -> Result<(), LayoutErrorKind> {
        if self.dtype.blob_code().is_none() {
            return Err(LayoutErrorKind::NoBlobType(self.dtype));
        }
        let needed = ValueType::tensor(self.dtype, &self.shape).byte_len();
        if needed != Some(self.size) {
            let needed = needed.map_or_else(|| "more than any file holds".to_owned(), |n| n.to_string());
            return Err(LayoutErrorKind::Size { size: self.size, needed });
        }
        let aligned = |offset: u64| offset.is_multiple_of(ALIGNMENT) && offset >= RECORD_BYTES;
        if !aligned(self.record) || !aligned(self.data) {
            return Err(LayoutErrorKind::Alignment { record: self.record, data: self.data });
        }
        Ok(())
    }

    /// The record of 64 bytes.
    pub(super) fn record_bytes(&self) -> [u8; RECORD_BYTES as usize] {
        let mut bytes = [0; RECORD_BYTES as usize];
        bytes[..4].copy_from_slice(&super::SENTINEL.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.dtype.blob_code().unwrap_or(0).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.data.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.unused_bits().to_le_bytes());
        bytes
    }

    /// Bits of the last byte that hold no element.
    fn unused_bits(&self) -> u64 {
        let bits = u64::from(self.dtype.bits().unwrap_or(8));
        let elements = self.shape.iter().fold(1_u64, |product, &extent| product.wrapping_mul(extent));
        (8 - elements.wrapping_mul(bits) % 8) % 8
    }
}
