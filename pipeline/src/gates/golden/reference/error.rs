//! What can keep a reference forward from being run.

use std::path::PathBuf;

use anepipe_gguf::GgufError;

/// Why there is no reference to compare with.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// A key is absent or of the wrong type, or weights cannot be decoded.
    #[error("reading the model for the reference forward: {0}")]
    Gguf(#[from] GgufError),
    /// An architecture without a reference.
    #[error(
        "reading {} for the reference forward: its architecture is {found:?}, and only \"phi3\" and \"llama\" have a reference; \
         ship the model without the golden gate, or give the gate a phi3 or llama file",
        file.display()
    )]
    Architecture {
        /// The file.
        file: PathBuf,
        /// What it says.
        found: String,
    },
    /// A key that is there and cannot be what it says, or asks for something that the reference does not compute.
    #[error("reading {} for the reference forward: `{key}` is {found}, expected {expected}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key or tensor.
        key: String,
        /// What it says.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A key of the architecture that the reference does not know, and that may change what the model computes.
    #[error(
        "reading {} for the reference forward: it has a key `{key}`, which the reference does not know and which may change what \
         the model computes",
        file.display()
    )]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// A tensor that the architecture needs is absent.
    #[error(
        "reading {} for the reference forward: it has no tensor `{tensor}`, which should have shape {expected:?}; convert the model \
         again",
        file.display()
    )]
    MissingTensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape, slowest axis first.
        expected: Vec<u64>,
    },
    /// A tensor that the reference would leave out.
    #[error(
        "reading {} for the reference forward: it has a tensor `{tensor}`, which the reference does not know and would leave out",
        file.display()
    )]
    UnknownTensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor's shape is not what the keys say.
    #[error(
        "reading {} for the reference forward: tensor `{tensor}` has shape {found:?}, expected {expected:?} ({why})",
        file.display()
    )]
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
    /// Nothing to run on.
    #[error("running the reference forward: the text has no tokens; give a text or token ids")]
    NoTokens,
    /// More tokens than the context has positions.
    #[error(
        "running the reference forward: the text has {tokens} tokens, and the context has {context} positions; give fewer tokens"
    )]
    TooLong {
        /// Tokens given.
        tokens: usize,
        /// Positions there are.
        context: u32,
    },
    /// A token that the vocabulary does not have.
    #[error(
        "running the reference forward: token {token} at position {position} is not in the vocabulary of {vocab}; were the ids made \
         with this model's tokenizer?"
    )]
    Token {
        /// The token.
        token: u32,
        /// Where it stands.
        position: usize,
        /// Number of tokens there are.
        vocab: u64,
    },
}
