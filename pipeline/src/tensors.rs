//! Safetensors files, written and read in pieces.
//!
//! A layer of a model is hundreds of megabytes, and several stages run at once, so no stage holds a whole tensor: a
//! [`TensorWriter`] knows every shape before the first byte and takes pieces of tensors in any order and from several
//! threads, and a [`TensorFile`] reads pieces at offsets. Header parsing and checking is the `safetensors` crate's.
//!
//! A file's bytes depend on nothing but its tensors: wider element types come first and, within one width, tensors
//! stand in the order they were given; no metadata is written. A file appears under its name only when it is whole.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};

use crate::whole::WholeFile;

/// The bytes of a tensor are those in memory, which holds where memory is little-endian like the format.
#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian and this code does not swap bytes");

/// Bytes of the length that opens a file.
const LENGTH_BYTES: usize = 8;

/// The largest header read; the `safetensors` crate's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// Data begin at a multiple of this, so that a mapped file can be read as 64-byte vectors.
const ALIGNMENT: usize = 64;

/// What went wrong with a safetensors file.
#[derive(Debug, thiserror::Error)]
pub enum TensorsError {
    /// The operating system refused.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// A writer was given something that does not fit its header. A mistake of the caller.
    #[error("writing {}: {problem}", path.display())]
    Misuse {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
}

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name, unique in its file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Extents, slowest first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// A tensor of that name, type and shape.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), dtype, shape: shape.into() }
    }

    /// Bytes of its data; `None` when they overflow or are no whole number.
    fn bytes(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1_usize, |n, extent| n.checked_mul(*extent))?;
        let bits = elements.checked_mul(self.dtype.bitsize())?;
        (bits % 8 == 0).then_some(bits / 8)
    }
}

/// Where a tensor lies in the file being written.
#[derive(Debug)]
struct Region {
    start: u64,
    bytes: u64,
    written: AtomicU64,
}

/// Writes a safetensors file piece by piece.
#[derive(Debug)]
pub struct TensorWriter {
    file: WholeFile,
    specs: Vec<TensorSpec>,
    regions: Vec<Region>,
}

impl TensorWriter {
    /// Starts a file that will stand at `path`. `specs` are all tensors it will hold; their positions in the list name
    /// them in [`write_at`](Self::write_at).
    pub fn create(path: &Path, specs: Vec<TensorSpec>) -> Result<Self, TensorsError> {
        let misuse = |problem: String| TensorsError::Misuse { path: path.to_owned(), problem };
        let mut names = HashSet::new();
        if let Some(spec) = specs.iter().find(|spec| !names.insert(spec.name.as_str())) {
            return Err(misuse(format!("two tensors are named `{}`", spec.name)));
        }

        // Wider types first keeps every tensor aligned to its own elements.
        let mut order: Vec<usize> = (0..specs.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(specs[i].dtype.bitsize()));

        let mut offsets = vec![(0, 0); specs.len()];
        let mut infos = Vec::with_capacity(specs.len());
        let mut end = 0_usize;
        for &i in &order {
            let spec = &specs[i];
            let start = end;
            end = spec.bytes().and_then(|bytes| start.checked_add(bytes)).ok_or_else(|| {
                misuse(format!("tensor `{}` of shape {:?} is too large", spec.name, spec.shape))
            })?;
            offsets[i] = (start, end);
            let info =
                TensorInfo { dtype: spec.dtype, shape: spec.shape.clone(), data_offsets: (start, end) };
            infos.push((spec.name.clone(), info));
        }
        let header = header(infos).map_err(|error| misuse(error.to_string()))?;

        let io = |source| TensorsError::Io { doing: "create", path: path.to_owned(), source };
        let file = WholeFile::create(path).map_err(io)?;
        file.as_file().write_all(&header).map_err(io)?;
        file.as_file().set_len((header.len() + end) as u64).map_err(io)?;

        let regions = offsets
            .into_iter()
            .map(|(start, end)| Region {
                start: (header.len() + start) as u64,
                bytes: (end - start) as u64,
                written: AtomicU64::new(0),
            })
            .collect();
        Ok(Self { file, specs, regions })
    }

    /// Writes `bytes` at byte `offset` of the tensor at position `tensor` of the list given to
    /// [`create`](Self::create). Every byte is to be written once, in any order, from any thread.
    pub fn write_at(&self, tensor: usize, offset: u64, bytes: &[u8]) -> Result<(), TensorsError> {
        let misuse = |problem: String| TensorsError::Misuse { path: self.file.path().to_owned(), problem };
        let (Some(region), Some(spec)) = (self.regions.get(tensor), self.specs.get(tensor)) else {
            return Err(misuse(format!("there is no tensor number {tensor}")));
        };
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > region.bytes) {
            return Err(misuse(format!(
                "{} bytes at {offset} do not fit `{}`, which has {}",
                bytes.len(),
                spec.name,
                region.bytes
            )));
        }
        self.file.as_file().write_all_at(bytes, region.start + offset).map_err(|source| {
            TensorsError::Io { doing: "write tensors to", path: self.file.path().to_owned(), source }
        })?;
        region.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Puts the file at its path. An error if a tensor is not whole; then there is no file.
    pub fn finish(self) -> Result<(), TensorsError> {
        for (spec, region) in self.specs.iter().zip(&self.regions) {
            let written = region.written.load(Ordering::Relaxed);
            if written != region.bytes {
                let problem =
                    format!("{written} of the {} bytes of `{}` were written", region.bytes, spec.name);
                return Err(TensorsError::Misuse { path: self.file.path().to_owned(), problem });
            }
        }
        let path = self.file.path().to_owned();
        self.file.commit().map_err(|source| TensorsError::Io { doing: "create", path, source })
    }
}

/// The header with its length before it and spaces behind it, up to where data begin.
fn header(infos: Vec<(String, TensorInfo)>) -> Result<Vec<u8>, SafeTensorError> {
    let metadata = Metadata::new(None, infos)?;
    let mut json = serde_json::to_string(&metadata)?;
    let whole = (LENGTH_BYTES + json.len()).next_multiple_of(ALIGNMENT);
    json.extend(std::iter::repeat_n(' ', whole - LENGTH_BYTES - json.len()));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    Ok(bytes)
}

/// A safetensors file opened for reading. Its header has been checked against the file's length; no data are in memory.
#[derive(Debug)]
pub struct TensorFile {
    file: File,
    path: PathBuf,
    metadata: Metadata,
    data: u64,
}

impl TensorFile {
    /// Opens the file at `path` and checks its header.
    pub fn open(path: &Path) -> Result<Self, TensorsError> {
        let io =
            |doing: &'static str| move |source| TensorsError::Io { doing, path: path.to_owned(), source };
        let malformed = |problem: String| TensorsError::Malformed { path: path.to_owned(), problem };

        let file = File::open(path).map_err(io("open"))?;
        let bytes = file.metadata().map_err(io("read"))?.len();
        let mut length = [0; LENGTH_BYTES];
        if bytes < LENGTH_BYTES as u64 {
            return Err(malformed(format!("{bytes} bytes are too few for a safetensors file")));
        }
        file.read_exact_at(&mut length, 0).map_err(io("read"))?;
        let length = u64::from_le_bytes(length);
        let data = LENGTH_BYTES as u64 + length.min(MAX_HEADER);
        if length > MAX_HEADER || data > bytes {
            return Err(malformed(format!(
                "no safetensors file, or one cut short: it announces a header of {length} bytes and has {bytes} in all"
            )));
        }
        let mut json = vec![0; length as usize];
        file.read_exact_at(&mut json, LENGTH_BYTES as u64).map_err(io("read"))?;
        let metadata: Metadata = serde_json::from_slice(&json)
            .map_err(|error| malformed(format!("the safetensors header is wrong: {error}")))?;
        let expected = data.checked_add(metadata.data_len() as u64);
        if expected != Some(bytes) {
            return Err(malformed(format!(
                "the header announces {} bytes of tensors and {} follow it; the file was cut short or appended to",
                metadata.data_len(),
                bytes - data
            )));
        }
        Ok(Self { file, path: path.to_owned(), metadata, data })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself, for copying ranges of it.
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// Names of the tensors in the order of their data.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Result<TensorRef<'_>, TensorsError> {
        self.metadata.info(name).map(|info| TensorRef { file: self, name: name.to_owned(), info }).ok_or_else(
            || TensorsError::Malformed {
                path: self.path.clone(),
                problem: format!("there is no tensor `{name}`; it has {}", self.names().join(", ")),
            },
        )
    }
}

/// One tensor of an open file.
#[derive(Debug)]
pub struct TensorRef<'a> {
    file: &'a TensorFile,
    name: String,
    info: &'a TensorInfo,
}

impl TensorRef<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.info.dtype
    }

    /// Extents, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.info.shape
    }

    /// Bytes of data.
    pub fn bytes(&self) -> u64 {
        (self.info.data_offsets.1 - self.info.data_offsets.0) as u64
    }

    /// Where in the file its data begin.
    pub fn file_offset(&self) -> u64 {
        self.file.data + self.info.data_offsets.0 as u64
    }

    /// Fills `out` with the bytes from byte `offset` of the tensor.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), TensorsError> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.bytes()) {
            return Err(TensorsError::Misuse {
                path: self.file.path.clone(),
                problem: format!("`{}` has no {} bytes at {offset}", self.name, out.len()),
            });
        }
        self.file.file.read_exact_at(out, self.file_offset() + offset).map_err(|source| TensorsError::Io {
            doing: "read tensors of",
            path: self.file.path.clone(),
            source,
        })
    }

    /// Its bytes from the first to the last.
    pub fn reader(&self) -> impl Read + '_ {
        TensorReader { tensor: self, position: 0 }
    }

    /// All its bytes. For tensors known to be small.
    pub fn read(&self) -> Result<Vec<u8>, TensorsError> {
        // The header was checked against the length of the file, so this allocates no more than the file holds.
        let mut out = vec![0; self.bytes() as usize];
        self.read_at(0, &mut out)?;
        Ok(out)
    }
}

/// Reads a tensor from its first byte to its last.
struct TensorReader<'a> {
    tensor: &'a TensorRef<'a>,
    position: u64,
}

impl Read for TensorReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.tensor.bytes() - self.position).unwrap_or(usize::MAX);
        let length = out.len().min(left);
        let at = self.tensor.file_offset() + self.position;
        let count = match out.get_mut(..length) {
            Some([]) | None => return Ok(0),
            Some(out) => self.tensor.file.file.read_at(out, at)?,
        };
        if count == 0 {
            // The header was checked against the length, so the file was cut short since.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
