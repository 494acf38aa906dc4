//! Writing a weight file from its first byte to its last, into anything that can be written.

use std::io::{self, Read, Write};
use std::path::Path;

use super::layout::WeightLayout;
use super::write::WeightWriteError;
use super::{RECORD_BYTES, VERSION};

/// Bytes read from a source at a time: whoever takes them, such as a hash, finds them in the processor's cache.
const BUFFER_BYTES: usize = 256 << 10;

/// What lies at one place of the file.
#[derive(Clone, Copy)]
enum Piece {
    Record(usize),
    Data(usize),
}

impl WeightLayout {
    /// Writes the whole file to `out`. `data` gives the data of the blob at an index of the layout: little-endian elements, packed
    /// if narrower than a byte, exactly as many bytes as the blob has. Blobs are asked for once each, in the order in which they
    /// lie. `path` is what messages call the file. Memory does not grow with the file.
    pub fn write_to<R: Read>(
        &self,
        path: &Path,
        mut out: impl Write,
        mut data: impl FnMut(usize) -> R,
    ) -> Result<(), WeightWriteError> {
        let io = |error| WeightWriteError::Io { path: path.to_owned(), error };
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut position = RECORD_BYTES;
        out.write_all(&self.header()).map_err(io)?;
        for (start, piece) in self.pieces() {
            // The layout has no overlaps, so what is before the next piece is a gap.
            pad(&mut out, start.saturating_sub(position)).map_err(io)?;
            position = start;
            position += match piece {
                Piece::Record(index) => {
                    let Some(blob) = self.blobs().get(index) else { continue };
                    out.write_all(&blob.record_bytes()).map_err(io)?;
                    RECORD_BYTES
                }
                Piece::Data(index) => self.copy(path, index, data(index), &mut out, &mut buffer)?,
            };
        }
        pad(&mut out, self.file_len().saturating_sub(position)).map_err(io)
    }

    /// Every record and all data, in the order in which they lie.
    fn pieces(&self) -> Vec<(u64, Piece)> {
        let blobs = self.blobs().iter().enumerate();
        let mut pieces: Vec<_> = blobs
            .flat_map(|(index, blob)| [(blob.record, Piece::Record(index)), (blob.data, Piece::Data(index))])
            .collect();
        // Data without bytes may share their place with what follows: they come first.
        let size = |piece: &Piece| match piece {
            Piece::Record(_) => RECORD_BYTES,
            Piece::Data(index) => self.blobs().get(*index).map_or(0, |blob| blob.size),
        };
        pieces.sort_by_key(|(start, piece)| (*start, size(piece)));
        pieces
    }

    pub(super) fn header(&self) -> [u8; RECORD_BYTES as usize] {
        let mut header = [0; RECORD_BYTES as usize];
        header[..4].copy_from_slice(&(self.blobs().len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&VERSION.to_le_bytes());
        header
    }

    /// Copies the data of one blob, and says how many bytes they are.
    fn copy(
        &self,
        path: &Path,
        index: usize,
        data: impl Read,
        out: &mut impl Write,
        buffer: &mut [u8],
    ) -> Result<u64, WeightWriteError> {
        let Some(blob) = self.blobs().get(index) else { return Ok(0) };
        let name = || blob.name.clone();
        // One byte more than fits would show that the data go on; it is never written.
        let mut data = data.take(blob.size.saturating_add(1));
        let mut found = 0;
        loop {
            let count = match data.read(buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(WeightWriteError::Source { path: path.to_owned(), name: name(), error });
                }
            };
            found += count as u64;
            if found > blob.size {
                break;
            }
            out.write_all(buffer.get(..count).unwrap_or_default())
                .map_err(|error| WeightWriteError::Io { path: path.to_owned(), error })?;
        }
        if found == blob.size {
            return Ok(found);
        }
        Err(WeightWriteError::Length { path: path.to_owned(), name: name(), expected: blob.size, found })
    }
}

/// Writes `count` zeros.
fn pad(out: &mut impl Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(count), out).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::{BlobSpec, WeightWriter};
    use super::*;
    use crate::program::DataType;

    /// With a gap before the first record, and the data of one blob before its record.
    fn layout() -> WeightLayout {
        let blob = |name: &str, record, data, size| BlobSpec {
            name: name.to_owned(),
            dtype: DataType::Int8,
            shape: vec![size],
            record,
            data,
            size,
        };
        WeightLayout::new(vec![blob("b", 448, 320, 65), blob("a", 128, 192, 70), blob("c", 512, 576, 0)])
            .unwrap()
    }

    fn data(index: usize) -> Vec<u8> {
        [vec![7; 65], (1..=70).collect(), vec![]][index].clone()
    }

    #[test]
    fn a_streamed_file_is_the_one_that_is_written_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weight.bin");
        let layout = layout();
        let mut writer = WeightWriter::create(&path, &layout).unwrap();
        for index in [2, 0, 1] {
            writer.write_blob(index, &*data(index)).unwrap();
        }
        writer.finish().unwrap();
        let mut streamed = Vec::new();
        let mut asked = Vec::new();
        let source = |index| {
            asked.push(index);
            io::Cursor::new(data(index))
        };
        layout.write_to(&path, &mut streamed, source).unwrap();
        assert_eq!(streamed, fs_err::read(&path).unwrap());
        assert_eq!((asked, streamed.len() as u64), (vec![1, 0, 2], layout.file_len()));
    }

    #[test]
    fn data_of_another_length_are_refused_by_name() {
        for (length, wrong) in [(64, 64), (66, 66), (500, 66)] {
            let source = |index: usize| {
                let data = if index == 0 { vec![7; length] } else { data(index) };
                io::Cursor::new(data)
            };
            let error = layout().write_to(Path::new("w"), io::sink(), source).unwrap_err();
            assert!(
                matches!(&error, WeightWriteError::Length { name, expected: 65, found, .. } if name == "b" && *found == wrong),
                "{error}"
            );
        }
    }
}
