//! What can be wrong with a model.

use std::path::PathBuf;

use anepipe_gguf::GgufError;

use super::Architecture;

/// Which of the command's exit codes an error belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitClass {
    /// The file contradicts itself or its format.
    BadInput,
    /// The file is sound, and asks for something that is not supported.
    Unsupported,
}

impl ExitClass {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::BadInput => 10,
            Self::Unsupported => 11,
        }
    }
}

/// Why a model has no contract.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The file cannot be read, or a key has a value of the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A key that has no default is absent.
    #[error(
        "{} has no metadata key `{key}`, and no default is assumed for it; \
         convert the model again with a current llama.cpp",
        file.display()
    )]
    MissingKey {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// Something contradicts something else in the file.
    #[error("{} contradicts itself: `{what}` is {found}, expected {expected}", file.display())]
    Contradiction {
        /// The file.
        file: PathBuf,
        /// The key or tensor that is judged.
        what: String,
        /// What it should be, and why.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A tensor that the architecture needs is absent.
    #[error("{} has no tensor `{tensor}`; a `{architecture}` model has one of shape {expected:?}", file.display())]
    MissingTensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The model's architecture.
        architecture: Architecture,
        /// Its shape, slowest axis first.
        expected: Vec<u64>,
    },
    /// A tensor that the architecture does not have is present, so the model computes something else.
    #[error(
        "{} has a tensor `{tensor}` of shape {found:?}, expected none of that name: it is no part of a `{architecture}` model",
        file.display()
    )]
    UnexpectedTensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The model's architecture.
        architecture: Architecture,
        /// Its shape, slowest axis first.
        found: Vec<u64>,
    },
    /// A tensor's shape is not what the keys say.
    #[error("{}: tensor `{tensor}` has shape {found:?}, expected {expected:?} ({why})", file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that the keys give, slowest axis first.
        expected: Vec<u64>,
        /// Its shape.
        found: Vec<u64>,
        /// Where the expected shape comes from.
        why: &'static str,
    },
    /// More positions were asked for than the model can take, or none.
    #[error(
        "a context of {asked} positions was asked for, and the model in {} takes 1 to {limit} (`{key}`); \
         ask for a context in that range",
        file.display()
    )]
    Context {
        /// The file.
        file: PathBuf,
        /// The key with the limit.
        key: String,
        /// Positions asked for.
        asked: u32,
        /// Positions the model can take.
        limit: u32,
    },
    /// A key asks for something that is not supported.
    #[error("{}: `{key}` is {found}, which is not supported; supported: {supported}", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What is supported.
        supported: String,
    },
}

impl ContractError {
    /// Which exit code this belongs to.
    pub fn exit_class(&self) -> ExitClass {
        match self {
            Self::Context { .. } | Self::Unsupported { .. } | Self::Gguf(GgufError::NoKernel { .. }) => {
                ExitClass::Unsupported
            }
            _ => ExitClass::BadInput,
        }
    }
}
