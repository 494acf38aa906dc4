//! The table of blobs: which tensor belongs at which byte of the weight file.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::GraphError;

/// The schema of `blobs.json`.
pub const BLOBS_SCHEMA: u32 = 1;

/// Header, record and alignment of a weight file, in bytes.
const UNIT: u64 = 64;

/// A table of ten thousand blobs stays below this.
const LARGEST_TABLE: u64 = 16 << 20;

/// A tensor of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TensorKind {
    /// The norm before attention, `[d]`.
    AttnNorm,
    /// Queries, keys, values, fused: `[(heads + 2·kv_heads)·head_dim, d]`.
    Qkv,
    /// `[d, heads·head_dim]`.
    AttnOutput,
    /// The norm before the feed-forward network, `[d]`.
    FfnNorm,
    /// Gate rows, then up rows: `[2·ffn, d]`.
    GateUp,
    /// `[d, ffn]`.
    Down,
    /// The model's last norm, `[d]`; belongs to no slot.
    OutputNorm,
    /// A slice of the vocabulary, `[rows, d]`; belongs to no slot.
    LmHead,
}

/// What of a tensor a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// fp16 values.
    Weight,
    /// int8 values.
    Int8,
    /// fp16 scales of the int8 values: one a row, or one.
    Scale,
    /// fp16 bias, one a row.
    Bias,
}

/// How a blob's elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Dtype {
    Float16,
    Int8,
}

impl Part {
    fn dtype(self) -> Dtype {
        if self == Self::Int8 { Dtype::Int8 } else { Dtype::Float16 }
    }

    /// Bytes an element.
    pub fn element_bytes(self) -> u64 {
        match self.dtype() {
            Dtype::Float16 => 2,
            Dtype::Int8 => 1,
        }
    }
}

/// What a blob is, wherever it lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BlobIdentity {
    slot: Option<u32>,
    tensor: TensorKind,
    part: Part,
    shape: Vec<u64>,
}

impl BlobIdentity {
    pub(super) fn new(slot: Option<u32>, tensor: TensorKind, part: Part, shape: Vec<u32>) -> Self {
        Self { slot, tensor, part, shape: shape.into_iter().map(u64::from).collect() }
    }
}

/// One blob. Offsets and sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// The constant's name in the program.
    pub name: String,
    /// The layer within the shard, counted from 0; none for what belongs to the shard as a whole.
    pub slot: Option<u32>,
    /// The tensor.
    pub tensor: TensorKind,
    /// What of it.
    pub part: Part,
    /// Told by `part`; stands here for readers of the file.
    dtype: Dtype,
    /// The tensor's shape, row-major. The program has axes of extent 1 besides.
    pub shape: Vec<u64>,
    /// Where the 64-byte record is.
    pub record: u64,
    /// Where the elements are: right behind the record.
    pub data: u64,
    /// Bytes of elements.
    pub size: u64,
}

impl Blob {
    pub(super) fn identity(&self) -> BlobIdentity {
        BlobIdentity { slot: self.slot, tensor: self.tensor, part: self.part, shape: self.shape.clone() }
    }
}

/// The blobs of one weight file, in file order. Offsets, sizes and order were checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct BlobTable {
    file_bytes: u64,
    blobs: Vec<Blob>,
}

/// The file as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    schema: u32,
    file_bytes: u64,
    blobs: Vec<Blob>,
}

/// A table that does not hold together.
#[derive(Debug, thiserror::Error)]
pub enum BlobTableError {
    /// Not JSON of the right form, or not a sound table.
    #[error("not a table of blobs: {0}")]
    Json(#[from] serde_json::Error),
    /// Larger than a table can be.
    #[error("the file has more than {LARGEST_TABLE} bytes, which no table of blobs has")]
    TooLarge,
    /// Written by another version.
    #[error("schema {0} is unknown to this program, which reads {BLOBS_SCHEMA}")]
    Schema(u32),
    /// A blob contradicts itself or its neighbours.
    #[error("the blob `{name}`: {reason}")]
    Blob {
        /// The blob.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file's size is not where the last blob ends.
    #[error("the weight file is said to have {claimed} bytes, but its blobs end at {end}")]
    FileBytes {
        /// What the table says.
        claimed: u64,
        /// Where the last blob ends.
        end: u64,
    },
}

impl BlobTable {
    /// Reads and checks a table.
    pub fn read(path: &Path) -> Result<Self, GraphError> {
        let mut text = Vec::new();
        fs_err::File::open(path)?.take(LARGEST_TABLE + 1).read_to_end(&mut text)?;
        let table = if text.len() as u64 > LARGEST_TABLE {
            Err(BlobTableError::TooLarge)
        } else {
            Self::from_json(&text)
        };
        table.map_err(|error| GraphError::Blobs { path: path.to_owned(), error })
    }

    /// Reads and checks a table from JSON.
    pub fn from_json(text: &[u8]) -> Result<Self, BlobTableError> {
        serde_json::from_slice::<Unchecked>(text)?.try_into()
    }

    /// Bytes of the weight file: it ends with the last blob, without padding.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The blobs in file order.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// The blob of one part of a tensor.
    pub fn find(&self, slot: Option<u32>, tensor: TensorKind, part: Part) -> Option<&Blob> {
        self.blobs.iter().find(|blob| (blob.slot, blob.tensor, blob.part) == (slot, tensor, part))
    }
}

impl From<BlobTable> for Unchecked {
    fn from(table: BlobTable) -> Self {
        Self { schema: BLOBS_SCHEMA, file_bytes: table.file_bytes, blobs: table.blobs }
    }
}

impl TryFrom<Unchecked> for BlobTable {
    type Error = BlobTableError;

    /// Accepts blobs that lie one behind the other from byte 64 on, each aligned to 64 and with the size of its shape.
    fn try_from(table: Unchecked) -> Result<Self, BlobTableError> {
        if table.schema != BLOBS_SCHEMA {
            return Err(BlobTableError::Schema(table.schema));
        }
        let mut end = UNIT;
        let (mut names, mut identities) = (HashSet::new(), HashSet::new());
        for blob in &table.blobs {
            let new =
                names.insert(blob.name.as_str()) && identities.insert((blob.slot, blob.tensor, blob.part));
            end = check(blob, end)
                .and_then(|end| if new { Ok(end) } else { Err("stands in the table twice".to_owned()) })
                .map_err(|reason| BlobTableError::Blob { name: blob.name.clone(), reason })?;
        }
        if table.file_bytes != end {
            return Err(BlobTableError::FileBytes { claimed: table.file_bytes, end });
        }
        Ok(Self { file_bytes: table.file_bytes, blobs: table.blobs })
    }
}

/// Checks one blob, which must start at the first multiple of 64 from `end` on; returns where it ends.
fn check(blob: &Blob, end: u64) -> Result<u64, String> {
    let start = end.checked_next_multiple_of(UNIT).ok_or("it starts beyond any file")?;
    if blob.dtype != blob.part.dtype() {
        return Err(format!("a {:?} is stored as {:?}, not {:?}", blob.part, blob.part.dtype(), blob.dtype));
    }
    let has_slot = !matches!(blob.tensor, TensorKind::OutputNorm | TensorKind::LmHead);
    if blob.slot.is_some() != has_slot {
        return Err(format!(
            "{:?} {} to a slot",
            blob.tensor,
            if has_slot { "belongs" } else { "does not belong" }
        ));
    }
    if blob.record != start {
        return Err(format!(
            "its record is at byte {}, it must be at {start}, behind the one before it",
            blob.record
        ));
    }
    if Some(blob.data) != start.checked_add(UNIT) {
        return Err(format!("its data is at byte {}, not right behind its record at {start}", blob.data));
    }
    let elements = blob.shape.iter().try_fold(1_u64, |product, extent| product.checked_mul(*extent));
    let size = elements.and_then(|elements| elements.checked_mul(blob.part.element_bytes()));
    if blob.shape.is_empty() || blob.size == 0 || size != Some(blob.size) {
        return Err(format!(
            "it has {} bytes, which is not the size of {:?} {:?}",
            blob.size, blob.dtype, blob.shape
        ));
    }
    blob.data
        .checked_add(blob.size)
        .ok_or_else(|| format!("it ends beyond any file: {} + {}", blob.data, blob.size))
}

#[cfg(test)]
#[path = "blobs_tests.rs"]
mod tests;
