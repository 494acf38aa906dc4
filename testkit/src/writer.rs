//! Writes GGUF files, whole or split, byte for byte as gguf-py does.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::value::{Value, write_string};

/// Bytes that are gathered before they go to the file.
const BUFFER: usize = 1 << 20;

/// A file that could not be written.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

/// A tensor's bytes, made when they are written, so that a model larger than memory can be written.
pub trait Content: Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes exactly [`Content::len`] bytes, the same every time.
    fn write(&self, out: &mut dyn Write) -> io::Result<()>;
}

impl Content for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self)
    }
}

/// A tensor to write.
pub struct TensorDef {
    name: String,
    dims: Vec<u64>,
    type_id: u32,
    content: Box<dyn Content>,
}

/// A GGUF file to write: always well formed, apart from what it is told to hold.
///
/// ```
/// use anepipe_testkit::GgufWriter;
///
/// let file = GgufWriter::new()
///     .meta("general.architecture", "phi3")
///     .meta("phi3.block_count", 2_u32)
///     .f32("output_norm.weight", &[4], &[1.0, 1.0, 1.0, 1.0])
///     .to_bytes();
/// assert_eq!(&file[..4], b"GGUF");
/// ```
pub struct GgufWriter {
    version: u32,
    alignment: u64,
    metadata: Vec<(String, Value)>,
    tensors: Vec<TensorDef>,
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl GgufWriter {
    /// An empty file of version 3, alignment 32.
    #[must_use]
    pub fn new() -> Self {
        Self { version: 3, alignment: 32, metadata: Vec::new(), tensors: Vec::new() }
    }

    /// Sets the version that the file says it is.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Aligns tensor data to `alignment` bytes (at least 1) and adds the key that says so.
    #[must_use]
    pub fn alignment(mut self, alignment: u32) -> Self {
        self.alignment = u64::from(alignment.max(1));
        self.meta("general.alignment", alignment)
    }

    /// Adds a metadata key.
    #[must_use]
    pub fn meta(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a tensor of any type: `dims` fastest first, `type_id` as ggml numbers types, `content` its bytes.
    #[must_use]
    pub fn tensor(mut self, name: &str, dims: &[u64], type_id: u32, content: impl Content + 'static) -> Self {
        let (name, dims, content) = (name.to_owned(), dims.to_vec(), Box::new(content));
        self.tensors.push(TensorDef { name, dims, type_id, content });
        self
    }

    /// Adds an F32 tensor.
    #[must_use]
    pub fn f32(self, name: &str, dims: &[u64], weights: &[f32]) -> Self {
        let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.tensor(name, dims, 0, bytes)
    }

    /// The whole file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let tensors: Vec<&TensorDef> = self.tensors.iter().collect();
        // Writing to a vector does not fail, and neither does content that keeps its word.
        let _ = self.write_part(&self.metadata, &tensors, &mut bytes);
        bytes
    }

    /// Writes the whole file to `path`, which it replaces only when all is written.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let tensors: Vec<&TensorDef> = self.tensors.iter().collect();
        self.write_file(path, &self.metadata, &tensors)
    }

    /// Writes files of at most `max_tensors` tensors (at least 1) each, called `<stem>-00001-of-0000N.gguf`, in `dir`,
    /// as gguf-split does: the metadata goes to the first.
    pub fn write_split(
        &self,
        dir: &Path,
        stem: &str,
        max_tensors: usize,
    ) -> Result<Vec<PathBuf>, WriteError> {
        let tensors: Vec<&TensorDef> = self.tensors.iter().collect();
        let parts: Vec<&[&TensorDef]> = tensors.chunks(max_tensors.max(1)).collect();
        let mut paths = Vec::new();
        for (no, part) in parts.iter().enumerate() {
            let mut metadata = match no {
                0 => self.metadata.clone(),
                // Alignment is each file's own.
                _ => self.metadata.iter().filter(|(key, _)| key == "general.alignment").cloned().collect(),
            };
            metadata.push(("split.no".to_owned(), Value::U16(no as u16)));
            metadata.push(("split.count".to_owned(), Value::U16(parts.len() as u16)));
            metadata.push(("split.tensors.count".to_owned(), Value::I32(tensors.len() as i32)));
            let path = dir.join(format!("{stem}-{:05}-of-{:05}.gguf", no + 1, parts.len()));
            self.write_file(&path, &metadata, part)?;
            paths.push(path);
        }
        Ok(paths)
    }

    fn write_file(
        &self,
        path: &Path,
        metadata: &[(String, Value)],
        tensors: &[&TensorDef],
    ) -> Result<(), WriteError> {
        let write = || -> io::Result<()> {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let temporary = tempfile::NamedTempFile::new_in(dir)?;
            let mut out = BufWriter::with_capacity(BUFFER, temporary.as_file());
            self.write_part(metadata, tensors, &mut out)?;
            out.flush()?;
            drop(out);
            temporary.persist(path).map_err(|error| error.error)?;
            readable_by_all(path)
        };
        write().map_err(|source| WriteError { path: path.to_owned(), source })
    }

    fn write_part(
        &self,
        metadata: &[(String, Value)],
        tensors: &[&TensorDef],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let head = self.head(metadata, tensors);
        out.write_all(&head)?;
        self.pad(head.len() as u64, out)?;
        for tensor in tensors {
            tensor.content.write(out)?;
            self.pad(tensor.content.len(), out)?;
        }
        Ok(())
    }

    /// All that comes before the padding and the data.
    fn head(&self, metadata: &[(String, Value)], tensors: &[&TensorDef]) -> Vec<u8> {
        let mut head = b"GGUF".to_vec();
        head.extend(self.version.to_le_bytes());
        head.extend((tensors.len() as u64).to_le_bytes());
        head.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            write_string(key, &mut head);
            head.extend((value.kind() as u32).to_le_bytes());
            value.write(&mut head);
        }
        let mut offset: u64 = 0;
        for TensorDef { name, dims, type_id, content } in tensors {
            write_string(name, &mut head);
            head.extend((dims.len() as u32).to_le_bytes());
            for dim in dims {
                head.extend(dim.to_le_bytes());
            }
            head.extend(type_id.to_le_bytes());
            head.extend(offset.to_le_bytes());
            offset += content.len().next_multiple_of(self.alignment);
        }
        head
    }

    /// Zeros from `len` to the next multiple of the alignment.
    fn pad(&self, len: u64, out: &mut dyn Write) -> io::Result<()> {
        let padding = len.next_multiple_of(self.alignment) - len;
        io::copy(&mut io::Read::take(io::repeat(0), padding), out)?;
        Ok(())
    }
}

/// A temporary file is its owner's alone; a model is for everyone.
fn readable_by_all(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        File::open(path)?.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}
