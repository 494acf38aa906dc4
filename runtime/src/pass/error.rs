//! What can be wrong with a shard's interface or with a pass asked of it.

/// An error of pass bookkeeping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// The shard lacks an input of its authoring style.
    #[error(
        "reading a shard's interface: the input {name} is missing (the shard has: {found}); rebuild the shard"
    )]
    MissingInput {
        /// The input looked for.
        name: &'static str,
        /// Inputs that are there.
        found: String,
    },
    /// The shard wants something that no pass fills.
    #[error(
        "reading a shard's interface: nothing here fills the input {0}; the shard is of an authoring style not known here"
    )]
    UnknownInput(String),
    /// A tensor's extents do not fit its role.
    #[error("reading a shard's interface: {name} is {found:?}, expected {expected}; rebuild the shard")]
    Shape {
        /// The tensor.
        name: String,
        /// What would fit.
        expected: String,
        /// What it is.
        found: Vec<usize>,
    },
    /// The shard gives nothing, or a layer shard gives more than hidden states.
    #[error("reading a shard's interface: {found} outputs, expected {expected}; rebuild the shard")]
    Outputs {
        /// Outputs that are there.
        found: usize,
        /// Outputs that would fit.
        expected: &'static str,
    },
    /// A shard with attention, and no rotary embedding to fill its inputs.
    #[error("preparing a shard's inputs: the shard attends, but no rotary embedding was given")]
    RopeMissing,
    /// The model and the shard disagree on the rotary width.
    #[error(
        "preparing a shard's inputs: the model rotates {model} elements of a head, the shard {shard}; \
         one of them was built from another model's numbers"
    )]
    RopeWidth {
        /// Width of the rotary embedding given.
        model: usize,
        /// Width of the shard's inputs.
        shard: usize,
    },
    /// No token, or more tokens than slots.
    #[error("preparing a pass: {given} tokens for {block} slots, a pass carries 1 to {block}")]
    Tokens {
        /// Tokens given.
        given: usize,
        /// Slots of the shard.
        block: usize,
    },
    /// A hidden state of another model.
    #[error("preparing a pass: hidden state {row} has {found} elements, the shard takes {expected}")]
    RowWidth {
        /// Which one.
        row: usize,
        /// Its elements.
        found: usize,
        /// The shard's hidden size.
        expected: usize,
    },
    /// The tokens do not fit behind what is already there.
    #[error(
        "preparing a pass: {tokens} tokens from position {start} on do not fit a context of {context}; \
         shorten the prompt or build with a larger --context"
    )]
    ContextFull {
        /// Position of the first token.
        start: usize,
        /// Tokens of the pass.
        tokens: usize,
        /// Positions of the cache.
        context: usize,
    },
    /// An output that cannot be the next shard's input.
    #[error("handing hidden states on: the output is {found:?}, the next shard takes {expected:?}")]
    Feed {
        /// The hidden input's extents.
        expected: Vec<usize>,
        /// The output's extents.
        found: Vec<usize>,
    },
    /// A slot that the shard does not have, or a tensor that is not one of its outputs.
    #[error("reading slot {slot} of an output of {elements} elements: the shard has {block} slots")]
    Slot {
        /// The slot asked for.
        slot: usize,
        /// Slots of the shard.
        block: usize,
        /// Elements of the tensor.
        elements: usize,
    },
}
