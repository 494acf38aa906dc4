//! Writing a weight file whose layout is known beforehand, blob by blob in any order.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use thiserror::Error;

use super::layout::WeightLayout;

/// Writes a weight file. Nothing is at its path until [`WeightWriter::finish`] moves the whole file there.
#[derive(Debug)]
pub struct WeightWriter {
    path: PathBuf,
    file: NamedTempFile,
    layout: WeightLayout,
    written: Vec<bool>,
}

/// A weight file that cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightWriteError {
    /// The operating system refused.
    #[error("writing the weight file {}: {error}", path.display())]
    Io {
        /// The weight file.
        path: PathBuf,
        /// The refusal.
        error: io::Error,
    },
    /// The data of a blob could not be read.
    #[error("writing the weight file {}, reading the data of `{name}`: {error}", path.display())]
    Source {
        /// The weight file.
        path: PathBuf,
        /// The blob.
        name: String,
        /// Why not.
        error: io::Error,
    },
    /// The data of a blob ended early or went on.
    #[error("writing the weight file {}: `{name}` has {found} bytes, its layout says {expected}", path.display())]
    Length {
        /// The weight file.
        path: PathBuf,
        /// The blob.
        name: String,
        /// Bytes of the layout.
        expected: u64,
        /// Bytes read; one too many stands for more.
        found: u64,
    },
    /// A blob was written before.
    #[error("writing the weight file {}: `{name}` is written a second time", path.display())]
    Twice {
        /// The weight file.
        path: PathBuf,
        /// The blob.
        name: String,
    },
    /// No blob has this index.
    #[error("writing the weight file {}: blob {index} of {count}", path.display())]
    NoSuchBlob {
        /// The weight file.
        path: PathBuf,
        /// As given.
        index: usize,
        /// Blobs in the layout.
        count: usize,
    },
    /// Blobs were never written.
    #[error("writing the weight file {}: {count} blobs were never written, the first is `{first}`", path.display())]
    Missing {
        /// The weight file.
        path: PathBuf,
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
}

impl WeightWriter {
    /// Begins the weight file that will stand at `path`: header and records are written, every gap is zero.
    pub fn create(path: impl AsRef<Path>, layout: &WeightLayout) -> Result<Self, WeightWriteError> {
        let path = path.as_ref().to_owned();
        let file =
            begin(&path, layout).map_err(|error| WeightWriteError::Io { path: path.clone(), error })?;
        Ok(Self { path, file, layout: layout.clone(), written: vec![false; layout.blobs().len()] })
    }

    /// Streams the data of the blob at `index` of the layout: little-endian elements, packed if narrower than a byte.
    /// `data` must give exactly the blob's bytes; a blob that failed may be written again.
    pub fn write_blob(&mut self, index: usize, data: impl Read) -> Result<(), WeightWriteError> {
        let Some((blob, written)) = self.layout.blobs().get(index).zip(self.written.get_mut(index)) else {
            let count = self.layout.blobs().len();
            return Err(WeightWriteError::NoSuchBlob { path: self.path.clone(), index, count });
        };
        let (path, name) = (|| self.path.clone(), || blob.name.clone());
        if *written {
            return Err(WeightWriteError::Twice { path: path(), name: name() });
        }
        let io = |error| WeightWriteError::Io { path: path(), error };
        let file = self.file.as_file_mut();
        file.seek(SeekFrom::Start(blob.data)).map_err(io)?;
        // One byte more than fits would show that the data go on; it is never written.
        let mut data = data.take(blob.size.saturating_add(1));
        let mut buffer = vec![0; BUFFER_BYTES.min(blob.size as usize + 1)];
        let mut found = 0_u64;
        loop {
            let count = match data.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(WeightWriteError::Source { path: path(), name: name(), error }),
            };
            found += count as u64;
            if found > blob.size {
                break;
            }
            file.write_all(buffer.get(..count).unwrap_or_default()).map_err(io)?;
        }
        if found != blob.size {
            return Err(WeightWriteError::Length { path: path(), name: name(), expected: blob.size, found });
        }
        *written = true;
        Ok(())
    }

    /// Moves the file to its path. Every blob must have been written.
    pub fn finish(self) -> Result<(), WeightWriteError> {
        let mut missing = self.layout.blobs().iter().zip(&self.written).filter(|(_, written)| !**written);
        if let Some((first, _)) = missing.next() {
            let (first, count) = (first.name.clone(), missing.count() + 1);
            return Err(WeightWriteError::Missing { path: self.path, count, first });
        }
        match self.file.persist(&self.path) {
            Ok(_) => Ok(()),
            Err(error) => Err(WeightWriteError::Io { path: self.path, error: error.error }),
        }
    }
}

/// Bytes read from a source at a time.
const BUFFER_BYTES: usize = 1 << 20;

fn begin(path: &Path, layout: &WeightLayout) -> io::Result<NamedTempFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".weight");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(directory.unwrap_or(Path::new(".")))?;
    file.as_file().set_len(layout.file_len())?;
    file.write_all(&layout.header())?;
    for blob in layout.blobs() {
        file.seek(SeekFrom::Start(blob.record))?;
        file.write_all(&blob.record_bytes())?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::{BlobSpec, LayoutErrorKind, WeightFile};
    use super::*;
    use crate::program::DataType;

    fn layout() -> WeightLayout {
        let tensors = [
            ("a", DataType::Float16, vec![3]),
            ("b", DataType::Int4, vec![5]),
            ("c", DataType::Int8, vec![0]),
        ];
        WeightLayout::packed(tensors.map(|(name, dtype, shape)| (name.to_owned(), dtype, shape))).unwrap()
    }

    #[test]
    fn blobs_written_in_any_order_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weight.bin");
        let layout = layout();
        let mut writer = WeightWriter::create(&path, &layout).unwrap();
        writer.write_blob(2, io::empty()).unwrap();
        writer.write_blob(1, &[0x21, 0x43, 0x05][..]).unwrap();
        writer.write_blob(0, Cursor::new([1, 2, 3, 4, 5, 6])).unwrap();
        assert!(!path.exists());
        writer.finish().unwrap();
        let file = WeightFile::open(&path).unwrap();
        assert_eq!(file.len(), layout.file_len());
        let blobs: Vec<_> = file.blobs().map(Result::unwrap).collect();
        assert_eq!(blobs.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [64, 192, 320]);
        assert_eq!(blobs[0].1.data, [1, 2, 3, 4, 5, 6]);
        assert_eq!((blobs[1].1.data, blobs[1].1.unused_bits), (&[0x21, 0x43, 0x05][..], 4));
        assert!(blobs[2].1.data.is_empty());
    }

    #[test]
    fn a_file_with_a_blob_missing_short_long_or_twice_never_appears() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weight.bin");
        let create = || WeightWriter::create(&path, &layout()).unwrap();

        assert!(
            matches!(create().finish(), Err(WeightWriteError::Missing { count: 3, first, .. }) if first == "a")
        );
        let mut failed = create();
        let short = failed.write_blob(0, &[0; 5][..]);
        assert!(matches!(short, Err(WeightWriteError::Length { expected: 6, found: 5, .. })));
        assert!(matches!(failed.finish(), Err(WeightWriteError::Missing { count: 3, .. })));
        let long = create().write_blob(0, io::repeat(1));
        assert!(matches!(long, Err(WeightWriteError::Length { expected: 6, found: 7, .. })));
        let mut writer = create();
        writer.write_blob(0, &[0; 6][..]).unwrap();
        let twice = writer.write_blob(0, &[0; 6][..]);
        assert!(matches!(twice, Err(WeightWriteError::Twice { .. })));
        let beyond = create().write_blob(3, io::empty());
        assert!(matches!(beyond, Err(WeightWriteError::NoSuchBlob { index: 3, count: 3, .. })));
        drop(writer);
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = WeightWriter::create(dir.path().join("absent/weight.bin"), &layout());
        assert!(nowhere.unwrap_err().to_string().contains("absent/weight.bin"));
    }

    #[test]
    fn a_table_that_does_not_fit_is_refused() {
        let spec = |name: &str, record, data, size| BlobSpec {
            name: name.to_owned(),
            dtype: DataType::Int8,
            shape: vec![size],
            record,
            data,
            size,
        };
        let refused = |blobs: Vec<BlobSpec>| WeightLayout::new(blobs).unwrap_err().kind;
        assert!(matches!(refused(vec![spec("a", 0, 64, 1)]), LayoutErrorKind::Alignment { .. }));
        assert!(matches!(refused(vec![spec("a", 64, 129, 1)]), LayoutErrorKind::Alignment { .. }));
        assert!(matches!(refused(vec![spec("a", 64, 64, 1)]), LayoutErrorKind::Overlap { .. }));
        let overlap = refused(vec![spec("a", 64, 128, 65), spec("b", 192, 256, 1)]);
        assert_eq!(overlap, LayoutErrorKind::Overlap { other: "a".to_owned() });
        let before = refused(vec![spec("b", 192, 256, 1), spec("a", 64, 128, 65)]);
        assert_eq!(before, LayoutErrorKind::Overlap { other: "b".to_owned() });
        let huge = u64::MAX / 64 * 64;
        assert_eq!(refused(vec![spec("a", 64, huge, 64)]), LayoutErrorKind::TooLarge);
        let mut wrong = spec("a", 64, 128, 4);
        wrong.size = 5;
        assert!(matches!(refused(vec![wrong]), LayoutErrorKind::Size { size: 5, .. }));
        let mut untyped = spec("a", 64, 128, 4);
        untyped.dtype = DataType::Int64;
        assert_eq!(refused(vec![untyped]), LayoutErrorKind::NoBlobType(DataType::Int64));
        assert!(WeightLayout::new(vec![spec("b", 192, 256, 1), spec("a", 64, 128, 64)]).is_ok());
        let product = WeightLayout::packed([("a".to_owned(), DataType::Int8, vec![u64::MAX, 2])]);
        assert_eq!(product.unwrap_err().kind, LayoutErrorKind::TooLarge);
    }
}
