//! Reading a weight file without copying it.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};

use fs_err::File;
use memmap2::Mmap;

use super::{ALIGNMENT, BlobError, RECORD_BYTES, SENTINEL, VERSION};
use crate::program::{DataType, ValueType};

/// A memory-mapped weight file.
#[derive(Debug)]
pub struct WeightFile {
    path: PathBuf,
    map: Mmap,
}

/// One blob: its element type and its bytes, which begin at a multiple of 64 in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob<'a> {
    /// Element type.
    pub dtype: DataType,
    /// Elements, little-endian; types narrower than a byte are packed from the lowest bit up.
    pub data: &'a [u8],
    /// Bits of the last byte that hold no element; 0 for types of whole bytes.
    pub unused_bits: u32,
}

impl WeightFile {
    /// Maps the file at `path` and checks its header. The file must stay as it is for as long as this value lives.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, BlobError> {
        let path = path.as_ref().to_owned();
        let file = File::open(&path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(BlobError::NotAFile { path });
        }
        if metadata.len() < RECORD_BYTES {
            return Err(BlobError::TooShort { path, len: metadata.len() });
        }
        // SAFETY: a mapping is unsound only if the file changes beneath it. Weight files are written once, under
        // another name, and renamed into place; nothing in this project writes to or cuts off one that exists.
        let map = unsafe { Mmap::map(file.file()) }?;
        let this = Self { path, map };
        let version = this.u32_at(4);
        if version != VERSION {
            return Err(BlobError::Version { path: this.path, version });
        }
        Ok(this)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length in bytes.
    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// Never: a weight file has at least a header.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Number of blobs the header says.
    pub fn count(&self) -> u32 {
        self.u32_at(0)
    }

    /// The blob whose record lies at byte `offset`.
    pub fn record(&self, offset: u64) -> Result<Blob<'_>, BlobError> {
        let (path, len) = (|| self.path.clone(), self.len());
        let record_fits = offset.checked_add(RECORD_BYTES).is_some_and(|end| end <= len);
        if !offset.is_multiple_of(ALIGNMENT) || offset < RECORD_BYTES || !record_fits {
            return Err(BlobError::RecordOutOfRange { path: path(), offset, len });
        }
        let found = self.u32_at(offset);
        if found != SENTINEL {
            return Err(BlobError::NoRecord { path: path(), offset, found });
        }
        let code = self.u32_at(offset + 4);
        let Some(dtype) = DataType::from_blob_code(code) else {
            return Err(BlobError::UnknownType { path: path(), offset, code });
        };
        let (size, start) = (self.u64_at(offset + 8), self.u64_at(offset + 16));
        let data = start
            .checked_add(size)
            .filter(|_| start.is_multiple_of(ALIGNMENT))
            .and_then(|end| self.map.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?));
        let Some(data) = data else {
            return Err(BlobError::DataOutOfRange { path: path(), offset, start, size, len });
        };
        // Writers older than iOS 18's left arbitrary bytes in this field, and knew only types of whole bytes.
        let unused_bits = match dtype.bits() {
            Some(bits) if bits < 8 => self.u64_at(offset + 24),
            _ => 0,
        };
        if unused_bits > 7 {
            return Err(BlobError::Padding { path: path(), offset, bits: unused_bits });
        }
        Ok(Blob { dtype, data, unused_bits: unused_bits as u32 })
    }

    /// The blob whose record lies at byte `offset`, if it holds exactly the elements of the tensor type `ty`.
    pub fn tensor(&self, offset: u64, ty: &ValueType) -> Result<Blob<'_>, BlobError> {
        let blob = self.record(offset)?;
        let expected = ty.byte_len();
        if ty.dtype() == Some(blob.dtype) && expected == Some(blob.data.len() as u64) {
            return Ok(blob);
        }
        let bytes = expected.map_or_else(String::new, |bytes| format!(", {bytes} bytes"));
        Err(BlobError::Mismatch {
            path: self.path.clone(),
            offset,
            found: format!("{} bytes of {}", blob.data.len(), blob.dtype),
            expected: format!("{ty}{bytes}"),
        })
    }

    /// Every blob with the offset of its record, found by walking the file from its beginning.
    pub fn blobs(&self) -> impl Iterator<Item = Result<(u64, Blob<'_>), BlobError>> {
        let mut offset = Some(RECORD_BYTES);
        (0..self.count()).map_while(move |_| {
            let record = offset.take()?;
            Some(self.record(record).map(|blob| {
                let end = record + RECORD_BYTES;
                let data_end =
                    (blob.data.as_ptr() as usize - self.map.as_ptr() as usize + blob.data.len()) as u64;
                // A record that points back would lead round for ever.
                offset = data_end.max(end).checked_next_multiple_of(ALIGNMENT);
                (record, blob)
            }))
        })
    }

    /// Callers have checked that the four bytes are there.
    fn u32_at(&self, offset: u64) -> u32 {
        let bytes = self.map.get(offset as usize..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// Callers have checked that the eight bytes are there.
    fn u64_at(&self, offset: u64) -> u64 {
        let bytes = self.map.get(offset as usize..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A weight file of one blob, eight bytes of fp16.
    fn bytes() -> Vec<u8> {
        let mut bytes = vec![0; 192];
        bytes[..8].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
        bytes[64..72].copy_from_slice(&[0xef, 0xbe, 0xad, 0xde, 1, 0, 0, 0]);
        bytes[72] = 8;
        bytes[80] = 128;
        bytes[128..136].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.truncate(136);
        bytes
    }

    fn open(bytes: &[u8]) -> Result<WeightFile, BlobError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), bytes).unwrap();
        // The mapping outlives the name.
        WeightFile::open(file.path())
    }

    #[test]
    fn a_record_gives_type_and_bytes() {
        let weights = open(&bytes()).unwrap();
        let blob = weights.record(64).unwrap();
        assert_eq!(blob, Blob { dtype: DataType::Float16, data: &[1, 2, 3, 4, 5, 6, 7, 8], unused_bits: 0 });
        assert_eq!(blob.data.as_ptr() as usize % 64, 0);
        assert_eq!(weights.count(), 1);
        assert_eq!(weights.blobs().map(|b| b.unwrap().0).collect::<Vec<_>>(), [64]);
    }

    #[test]
    fn a_tensor_must_match_its_blob() {
        let weights = open(&bytes()).unwrap();
        assert!(weights.tensor(64, &ValueType::tensor(DataType::Float16, &[2, 2])).is_ok());
        for ty in [
            ValueType::tensor(DataType::Float16, &[5]),
            ValueType::tensor(DataType::Float16, &[u64::MAX, 2]),
            ValueType::tensor(DataType::Int8, &[8]),
            ValueType::Tuple(Vec::new()),
        ] {
            assert!(matches!(weights.tensor(64, &ty), Err(BlobError::Mismatch { .. })), "{ty}");
        }
    }

    /// Each row damages the file at a byte and gives the beginning of the message after the path.
    #[test]
    fn damage_is_named() {
        let table: [(usize, &[u8], u64, &str); 9] = [
            (0, &[], 0, "no blob record can lie at byte 0 "),
            (0, &[], 65, "no blob record can lie at byte 65 "),
            (0, &[], 128, "no blob record can lie at byte 128 "),
            (0, &[], u64::MAX - 63, "no blob record can lie at byte 18446744073709551552 "),
            (64, &[0], 64, "no blob record at byte 64: it begins with 0xdeadbe00"),
            (68, &[99], 64, "the blob record at byte 64 has the unknown element type 99"),
            (
                72,
                &[9],
                64,
                "the blob record at byte 64 says 9 bytes of data at byte 128; the file has 136 bytes",
            ),
            (80, &[1], 64, "the blob record at byte 64 says 8 bytes of data at byte 1;"),
            (72, &[255; 16], 64, "the blob record at byte 64 says 18446744073709551615 bytes of data"),
        ];
        for (at, damage, offset, message) in table {
            let mut bytes = bytes();
            bytes[at..at + damage.len()].copy_from_slice(damage);
            let weights = open(&bytes).unwrap();
            let path = weights.path().display().to_string();
            let found = weights.record(offset).unwrap_err().to_string();
            assert!(found.starts_with(&format!("{path}: {message}")), "{found}");
        }
    }

    #[test]
    fn unused_bits_are_read_for_packed_types_only() {
        let mut bytes = bytes();
        bytes[88] = 0xee;
        assert_eq!(open(&bytes).unwrap().record(64).unwrap().unused_bits, 0);
        bytes[68] = 8;
        assert!(matches!(open(&bytes).unwrap().record(64), Err(BlobError::Padding { bits: 0xee, .. })));
        bytes[88] = 4;
        assert_eq!(open(&bytes).unwrap().record(64).unwrap().unused_bits, 4);
    }

    #[test]
    fn what_is_no_weight_file_is_refused() {
        assert!(matches!(open(&[]), Err(BlobError::TooShort { len: 0, .. })));
        assert!(matches!(open(&bytes()[..63]), Err(BlobError::TooShort { len: 63, .. })));
        assert!(matches!(open(&[1; 64]), Err(BlobError::Version { version: 0x0101_0101, .. })));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(WeightFile::open(dir.path()), Err(BlobError::NotAFile { .. })));
        let missing = dir.path().join("absent.bin");
        let message = WeightFile::open(&missing).unwrap_err().to_string();
        assert!(message.contains(&missing.display().to_string()), "{message}");
    }

    /// A header that claims four billion blobs costs nothing, and a record that points at itself does not loop.
    #[test]
    fn a_walk_ends() {
        let mut bytes = bytes();
        bytes[..4].fill(0xff);
        bytes[72] = 0;
        bytes[80] = 0;
        let weights = open(&bytes).unwrap();
        assert!(weights.blobs().count() <= 3);
    }
}
