//! What can go wrong while a shard is loaded or run.

use std::path::PathBuf;

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A shard could not be read or is not one this device can run.
    #[error("loading the shard {}: {reason}", path.display())]
    Load {
        /// The `.mlmodelc` directory.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// A shard's program is not one this device can run.
    #[error("loading the shard {}: {source}", path.display())]
    Program {
        /// The `.mlmodelc` directory.
        path: PathBuf,
        /// Which operation or port, and why.
        source: crate::portable::ProgramError,
    },
    /// A shard does not have the function that was asked for.
    #[error(
        "looking for a function of a shard: there is no `{wanted}`, it has {available}; build with that width"
    )]
    Function {
        /// Its name.
        wanted: String,
        /// The functions there are.
        available: String,
    },
    /// Core ML would not do what it was asked for.
    #[error("{doing} on Core ML: {source}")]
    CoreMl {
        /// What was being done, and with which shard and function.
        doing: String,
        /// What it said, and what to do about it.
        source: crate::coreml::Failure,
    },
    /// A device that does not exist, or not here.
    #[error("opening the device `{device}`: {reason}")]
    Device {
        /// Its name.
        device: String,
        /// Why it cannot be used, and what to do instead.
        reason: String,
    },
    /// A prediction was asked for with tensors or a state that do not fit the shard.
    #[error("running a shard: {0}")]
    Mismatch(String),
}
