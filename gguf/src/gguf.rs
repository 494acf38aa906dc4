//! An open model: one file, or several that were split, as one.

use std::path::{Path, PathBuf};

use indexmap::{IndexMap, map::Entry};

use crate::{
    GgufError, Metadata, Tensor,
    error::{Malformed, SplitProblem},
    header, layout,
    layout::Placed,
    source::Source,
    split::Split,
};

/// An open GGUF model.
///
/// The files stay mapped, unread until asked for, as long as this lives. It can be shared across threads.
#[derive(Debug)]
pub struct Gguf {
    files: Vec<PathBuf>,
    sources: Vec<Source>,
    version: u32,
    alignment: u64,
    metadata: Metadata,
    /// Tensors by name, in file order, each with the file it lies in.
    tensors: IndexMap<Box<str>, (usize, Placed)>,
}

/// One file, parsed.
pub(crate) struct Part {
    pub(crate) file: PathBuf,
    pub(crate) source: Source,
    pub(crate) version: u32,
    pub(crate) alignment: u64,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<(Box<str>, Placed)>,
}

impl Gguf {
    /// Opens the model at `path`. If that is a part of a split model, whichever it is, all parts are opened as one.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let part = Part::open(path)?;
        match Split::of(&part)? {
            None => Self::from_parts(part, Vec::new()),
            Some(split) => {
                let (first, rest) = split.gather(part)?;
                Self::from_parts(first, rest)
            }
        }
    }

    /// Reads a model from memory; `name` stands in for the file in messages. A part of a split model is refused.
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, GgufError> {
        let part = Part::parse(name.into(), Source::Owned(bytes))?;
        match Split::of(&part)? {
            None => Self::from_parts(part, Vec::new()),
            Some(split) => Err(GgufError::Split {
                file: part.file,
                problem: Box::new(SplitProblem::InMemory { count: split.count }),
            }),
        }
    }

    /// The parts, first to last, as one model.
    fn from_parts(first: Part, rest: Vec<Part>) -> Result<Self, GgufError> {
        let tensors = first.tensors.into_iter().map(|(name, placed)| (name, (0, placed))).collect();
        let mut model = Self {
            version: first.version,
            alignment: first.alignment,
            metadata: first.metadata,
            files: vec![first.file],
            sources: vec![first.source],
            tensors,
        };
        for part in rest {
            model.add(part)?;
        }
        Ok(model)
    }

    /// Adds the tensors of one more part.
    fn add(&mut self, part: Part) -> Result<(), GgufError> {
        let index = self.files.len();
        for (name, placed) in part.tensors {
            match self.tensors.entry(name) {
                Entry::Vacant(free) => {
                    free.insert((index, placed));
                }
                Entry::Occupied(taken) => {
                    let other = self.files.get(taken.get().0).cloned().unwrap_or_default();
                    let problem = SplitProblem::DuplicateTensor { tensor: taken.key().to_string(), other };
                    return Err(GgufError::Split { file: part.file, problem: Box::new(problem) });
                }
            }
        }
        self.files.push(part.file);
        self.sources.push(part.source);
        Ok(())
    }

    /// The metadata: of the first file, if there are several.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors, in the order of the files' lists.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'_>> {
        self.tensors.iter().map(|(name, (index, placed))| self.view(name, *index, placed))
    }

    /// The tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let (_, name, (index, placed)) = self.tensors.get_full(name)?;
        Some(self.view(name, *index, placed))
    }

    /// The files the model lies in, first to last.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The version of the format, 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The alignment of tensor data in the first file, in bytes.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    fn view<'a>(&'a self, name: &'a str, index: usize, placed: &'a Placed) -> Tensor<'a> {
        // The index and the range were checked when the model was opened, against bytes that a usize counts.
        let (file, source) = (&self.files[index], &self.sources[index]);
        let range = placed.offset as usize..(placed.offset + placed.len) as usize;
        let bytes = source.bytes().get(range).unwrap_or_default();
        Tensor { name, file, source, placed, bytes }
    }
}

impl Part {
    /// Maps and parses one file.
    pub(crate) fn open(path: &Path) -> Result<Self, GgufError> {
        Self::parse(path.to_owned(), Source::map(path)?)
    }

    fn parse(file: PathBuf, source: Source) -> Result<Self, GgufError> {
        let bytes = source.bytes();
        if bytes.is_empty() {
            return Err(GgufError::Malformed { file, offset: 0, problem: Box::new(Malformed::Empty) });
        }
        let parsed = header::parse(bytes).and_then(|header| {
            let placed = layout::place(&header, bytes.len() as u64)?;
            Ok((header, placed))
        });
        let (header, placed) = parsed.map_err(|fault| fault.in_file(&file))?;
        let alignment = layout::alignment(&header.metadata).unwrap_or(layout::DEFAULT_ALIGNMENT);
        Ok(Self {
            version: header.version,
            alignment,
            metadata: Metadata::new(&file, header.metadata),
            tensors: header.tensors.into_keys().zip(placed).collect(),
            source,
            file,
        })
    }
}
