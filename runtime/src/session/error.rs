//! What can be wrong with a model's parts, with a prompt, or with a pass.

use std::path::PathBuf;

use crate::error::RuntimeError;
use crate::pass::PassError;
use crate::rope::RopeError;
use crate::token::TokenId;

/// An error of a model or a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The parts contradict each other.
    #[error("opening the model: {0}; build the bundle again")]
    Parts(String),
    /// The rotary embedding cannot be computed.
    #[error("opening the model: {0}")]
    Rope(#[from] RopeError),
    /// The embedding is not this model's.
    #[error("opening the embedding {}: {reason}; build the bundle again", path.display())]
    Embedding {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A shard could not be loaded; the message names it.
    #[error("opening the model: {0}")]
    Load(#[source] RuntimeError),
    /// A loaded shard lacks a function, or could not be run.
    #[error("{}: {source}", path.display())]
    Shard {
        /// The `.mlmodelc` folder.
        path: PathBuf,
        /// What is wrong.
        source: RuntimeError,
    },
    /// A shard's interface, or a pass of it, is wrong.
    #[error("{}: {source}", path.display())]
    Pass {
        /// The `.mlmodelc` folder.
        path: PathBuf,
        /// What is wrong.
        source: PassError,
    },
    /// A prompt without tokens: there is nothing for the model to go on from.
    #[error("reading the prompt: it has no tokens; give at least one, such as the begin-of-text token")]
    EmptyPrompt,
    /// A token that the model does not have.
    #[error(
        "feeding token number {index}: its id {token} is outside the vocabulary of {vocab} tokens; \
         the text was tokenized for another model"
    )]
    Token {
        /// Which token of those given.
        index: usize,
        /// Its id.
        token: TokenId,
        /// Tokens there are.
        vocab: usize,
    },
    /// A pass of no tokens, or of more than the widest program takes.
    #[error("running a pass: {given} tokens were given, a pass carries 1 to {widest}")]
    Tokens {
        /// Tokens given.
        given: usize,
        /// Slots of the widest program.
        widest: usize,
    },
    /// The tokens do not fit behind what is already there.
    #[error(
        "feeding {tokens} tokens from position {position} on: they do not fit a context of {context}; \
         shorten the prompt or build with a larger --context"
    )]
    ContextFull {
        /// Tokens committed so far.
        position: usize,
        /// Tokens given.
        tokens: usize,
        /// Positions of the cache.
        context: usize,
    },
    /// Something of a pass was asked for that the latest pass does not have.
    #[error("after a pass of {tokens} tokens: {asked} was asked for; run a pass that has it first")]
    NotInPass {
        /// What was asked for.
        asked: String,
        /// Tokens of the latest pass that are not committed yet.
        tokens: usize,
    },
    /// An earlier pass failed half-way.
    #[error("running a pass: an earlier one failed and left the cache undefined; open another session")]
    Broken,
}
