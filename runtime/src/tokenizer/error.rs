//! What can go wrong while a tokenizer is read or used.

use std::path::PathBuf;

use crate::token::TokenId;

/// A tokenizer that cannot be read, or was asked for what it does not have.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file could not be read.
    #[error("reading the tokenizer: {0}")]
    Io(#[from] std::io::Error),
    /// The file is larger than any vocabulary.
    #[error("reading the tokenizer {}: it has {size} bytes, and no vocabulary needs more than {limit}; build the bundle again", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The file is not JSON of the expected form.
    #[error("reading the tokenizer {}: it is not tokenizer metadata: {reason}; build the bundle again", path.display())]
    NotMetadata {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The file is of another schema.
    #[error("reading the tokenizer {}: it has schema {found}, and this anepipe reads {expected}; build the bundle again", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The schema it names.
        found: u64,
        /// The schema that is read.
        expected: u64,
    },
    /// A key is absent.
    #[error("reading the tokenizer {}: it has no {key}, so its model file had none; convert the model again", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The absent key.
        key: &'static str,
    },
    /// A key holds what cannot be.
    #[error("reading the tokenizer {}: {key}: {reason}; convert the model again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A key asks for an algorithm that is not implemented.
    #[error(
        "reading the tokenizer {}: {key} is {value:?}, and anepipe knows {known}; give prompts as token ids",
        path.display()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The values that are implemented.
        known: &'static str,
    },
    /// A token id beyond the vocabulary.
    #[error(
        "turning tokens into text: there is no token {id} in a vocabulary of {vocabulary}; do the ids belong to this model?"
    )]
    NoSuchToken {
        /// The id.
        id: TokenId,
        /// How many tokens there are.
        vocabulary: u32,
    },
    /// The model brings no chat template.
    #[error("rendering a chat: {} has no tokenizer.chat_template; give a plain prompt", path.display())]
    NoTemplate {
        /// The file.
        path: PathBuf,
    },
    /// The chat template failed.
    #[error("rendering a chat: tokenizer.chat_template of {}: {reason}; give a plain prompt", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// What the template engine says, or the template itself.
        reason: String,
    },
}
