//! Why a program cannot run on the portable device.

/// A program that the portable device cannot run, or not as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The model cannot be read at all.
    #[error("{0}")]
    Model(String),
    /// The function that was asked for, or a default one, is not there.
    #[error("no function {wanted}; the program has {available}: name one of them")]
    Function {
        /// What was looked for.
        wanted: String,
        /// The functions there are.
        available: String,
    },
    /// An input, output or state that cannot cross the device's border.
    #[error("function `{function}`, {role} `{name}`: {reason}")]
    Port {
        /// The function.
        function: String,
        /// `input`, `output` or `state`.
        role: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An operation the portable device does not have.
    #[error(
        "function `{function}`: the operation `{kind}` that computes `{variable}` is not one the portable device has; \
         build the model without it, or run it on the device `coreml`"
    )]
    UnknownOperation {
        /// The function.
        function: String,
        /// The operator.
        kind: String,
        /// What it computes.
        variable: String,
    },
    /// An operation with parameters that contradict each other or that the portable device does not support.
    #[error("function `{function}`, operation `{kind}` computing `{variable}`: {reason}")]
    Operation {
        /// The function.
        function: String,
        /// The operator.
        kind: String,
        /// What it computes.
        variable: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two functions that cannot share one state.
    #[error(
        "function `{function}`: its states are not those of function `{other}`; functions of one shard share their KV cache, \
         rebuild the shard"
    )]
    States {
        /// The function.
        function: String,
        /// The one it was compared with.
        other: String,
    },
    /// More memory than any shard needs.
    #[error("the tensors of its functions together need {bytes} bytes; the limit is {limit}")]
    TooLarge {
        /// Bytes of states and intermediate results.
        bytes: u128,
        /// The most that is allowed.
        limit: u128,
    },
}
