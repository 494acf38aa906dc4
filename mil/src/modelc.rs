//! Compiled models: `.mlmodelc` directories of ML Programs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::blob::{Blob, BlobError, WeightFile};
use crate::program::{Literal, Program, Value};
use crate::references;
use crate::text::{self, Dialect, ParseError, ParseErrorKind};

/// A compiled model, its program read and its weight files mapped.
#[derive(Debug)]
pub struct ModelC {
    path: PathBuf,
    dialect: Dialect,
    program: Program,
    weights: BTreeMap<String, WeightFile>,
}

/// A compiled model that cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelCError {
    /// The operating system refused; the message names the path.
    #[error("opening a compiled model: {0}")]
    Io(#[from] io::Error),
    /// Not a directory.
    #[error("{}: a compiled model is a directory that ends in .mlmodelc, this is none", path.display())]
    NotADirectory {
        /// What was opened.
        path: PathBuf,
    },
    /// No `model.mil`.
    #[error(
        "{}: there is no model.mil here, so this is no compiled ML Program \
         (a neural network has model.espresso.net instead; convert it to an ML Program)",
        path.display()
    )]
    NoProgram {
        /// The model.
        path: PathBuf,
    },
    /// `model.mil` cannot be read.
    #[error("{}: {error}", path.display())]
    Parse {
        /// The `model.mil`.
        path: PathBuf,
        /// What is wrong, and where.
        error: ParseError,
    },
    /// A weight file is missing, cannot be read, or holds something else.
    #[error(transparent)]
    Weights(#[from] BlobError),
}

impl ModelC {
    /// Reads the program of the model at `path` and maps the weight files it refers to. Every reference is checked:
    /// the blob is there and holds exactly the elements its type says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelCError> {
        let path = path.as_ref().to_owned();
        if !fs_err::metadata(&path)?.is_dir() {
            return Err(ModelCError::NotADirectory { path });
        }
        let text_path = path.join("model.mil");
        let bytes = match fs_err::read(&text_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ModelCError::NoProgram { path });
            }
            bytes => bytes?,
        };
        let parsed = match std::str::from_utf8(&bytes) {
            Ok(text) => text::parse(text),
            Err(error) => {
                let valid = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default());
                Err(ParseError::at(&valid, valid.len(), ParseErrorKind::NotUtf8))
            }
        };
        let (dialect, program) = parsed.map_err(|error| ModelCError::Parse { path: text_path, error })?;

        let weights = references::open_all(&program, &path)?;
        Ok(Self { path, dialect, program, weights })
    }

    /// The model's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the program's text spells scalars.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The weight files the program refers to, by the names it uses.
    pub fn weights(&self) -> &BTreeMap<String, WeightFile> {
        &self.weights
    }

    /// The bytes of `value` if it lies in a weight file; `None` if its elements are inline.
    pub fn blob(&self, value: &Value) -> Result<Option<Blob<'_>>, ModelCError> {
        let Literal::Blob { file, offset } = &value.literal else { return Ok(None) };
        let foreign = || BlobError::Outside { path: self.path.clone(), file: file.clone() };
        let weights = self.weights.get(file).ok_or_else(foreign)?;
        Ok(Some(weights.tensor(*offset, &value.ty)?))
    }
}
