//! Compiled models: `.mlmodelc` directories of ML Programs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use crate::blob::{Blob, BlobError, WeightFile};
use crate::program::{Argument, Block, Literal, Operation, Program, Value, ValueType};
use crate::text::{self, Dialect, ParseError, ParseErrorKind};

/// Where blob references of a program begin: the model's own directory.
const MODEL_PATH: &str = "@model_path/";

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
    /// A blob reference leads out of the model.
    #[error("{}: the weight file `{file}` of the program is not below {MODEL_PATH}", path.display())]
    Outside {
        /// The model.
        path: PathBuf,
        /// As the program has it.
        file: String,
    },
    /// A weight file cannot be read, or holds something else.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl ModelC {
    /// Reads the program of the model at `path` and maps the weight files it refers to. Every reference is checked: the
    /// blob is there and holds exactly the elements its type says.
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

        let mut references = Vec::new();
        for function in program.functions.values() {
            collect_block(&function.block, &mut references);
        }
        let mut weights = BTreeMap::new();
        for (ty, file, offset) in references {
            if !weights.contains_key(file) {
                weights.insert(file.to_owned(), WeightFile::open(resolve(&path, file)?)?);
            }
            if let Some(weight_file) = weights.get(file) {
                weight_file.tensor(offset, ty)?;
            }
        }
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
        let outside = || ModelCError::Outside { path: self.path.clone(), file: file.clone() };
        let weights = self.weights.get(file).ok_or_else(outside)?;
        Ok(Some(weights.tensor(*offset, &value.ty)?))
    }
}

/// The path of the weight file a program calls `file`, which must lie in `model`.
pub(crate) fn resolve(model: &Path, file: &str) -> Result<PathBuf, ModelCError> {
    file.strip_prefix(MODEL_PATH)
        .map(Path::new)
        .filter(|relative| relative.components().all(|part| matches!(part, Component::Normal(_))))
        .map(|relative| model.join(relative))
        .ok_or_else(|| ModelCError::Outside { path: model.to_owned(), file: file.to_owned() })
}

/// A blob reference: the tensor's type, the weight file's name, the record's offset.
type Reference<'a> = (&'a ValueType, &'a str, u64);

fn collect_block<'a>(block: &'a Block, references: &mut Vec<Reference<'a>>) {
    for operation in &block.operations {
        collect_operation(operation, references);
    }
}

fn collect_operation<'a>(operation: &'a Operation, references: &mut Vec<Reference<'a>>) {
    let inline = operation.inputs.values().flatten().filter_map(|argument| match argument {
        Argument::Value(value) => Some(value),
        Argument::Name(_) => None,
    });
    for value in inline.chain(operation.attributes.values()) {
        collect_value(value, references);
    }
    for block in &operation.blocks {
        collect_block(block, references);
    }
}

fn collect_value<'a>(value: &'a Value, references: &mut Vec<Reference<'a>>) {
    match &value.literal {
        Literal::Blob { file, offset } => references.push((&value.ty, file, *offset)),
        Literal::Tuple(members) | Literal::List(members) => {
            for member in members {
                collect_value(member, references);
            }
        }
        Literal::Dictionary(entries) => {
            for (key, entry) in entries {
                collect_value(key, references);
                collect_value(entry, references);
            }
        }
        Literal::Bool(_) | Literal::Int(_) | Literal::Float(_) | Literal::String(_) => {}
    }
}
