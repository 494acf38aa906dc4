//! Where in a model an operation is, and what its values are: read off the names that the graph stage gives.
//!
//! The one place of this gate that knows how a graph is authored (style `stateful`: [`in_layer`] for the layers of a shard, then
//! `output_norm…`, and `hidden_out` for the result). In a program with other names every value still counts, as [`What::Other`] of
//! no layer.

use std::ops::Range;

use anepipe_runtime::portable::{Kind, Observed, Side};
use serde::{Deserialize, Serialize};

use crate::operation::in_layer;

/// A shard as reports name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shard {
    /// Decoder layers.
    Layers(Range<u32>),
    /// Vocabulary rows of the LM head.
    Head(Range<u32>),
}

/// What part of a shard a value is in, in the order of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// What all layers of a shard share, or operations whose names say nothing.
    Shared,
    /// A decoder layer.
    Layer,
    /// The norm behind the last layer.
    OutputNorm,
    /// A slice of the LM head.
    LmHead,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The residual stream behind attention and behind the feed-forward part.
    Stream,
    /// What a norm is applied to.
    NormInput,
    /// The smallest root mean square of that, over a token's channels.
    NormRmsSmallest,
    /// The largest.
    NormRmsLargest,
    /// The sum of its squares once the norm has scaled it.
    NormSquares,
    /// What a convolution with an int8 matrix is applied to.
    Int8Input,
    /// What a convolution with an fp16 matrix is applied to.
    HalfInput,
    /// What convolutions give.
    ConvolutionOutput,
    /// Products of queries with the keys that they see.
    Scores,
    /// Every other result that is computed and not only moved.
    Other,
}

/// A layer of a shard by its slot, or another part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Shared,
    Layer(u32),
    OutputNorm,
    LmHead,
}

/// The part that an operation's name speaks of. One that says nothing belongs to what stands before it, which is `before`.
pub(super) fn part(operation: &str, before: Part) -> Part {
    if let Some((slot, _)) = in_layer(operation) {
        Part::Layer(slot)
    } else if operation.starts_with("output_norm") {
        Part::OutputNorm
    } else {
        before
    }
}

/// What `observed`, in `part`, is; nothing if its elements are those of another tensor, moved or reduced to the largest.
pub(super) fn what(observed: &Observed<'_>, part: Part) -> Option<What> {
    let operation = observed.operation;
    let name = in_layer(operation).map_or(operation, |(_, name)| name);
    let behind_a_layer = operation == "hidden_out" && matches!(part, Part::Layer(_));
    Some(match (observed.kind, observed.side) {
        (Kind::Movement, _) => return None,
        (Kind::Int8Convolution, Side::Input) => What::Int8Input,
        (_, Side::Input) => What::HalfInput,
        (Kind::Int8Convolution | Kind::HalfConvolution, _) => What::ConvolutionOutput,
        (Kind::Scores, _) => What::Scores,
        _ if matches!(name, "after_attention" | "after_ffn") || behind_a_layer => What::Stream,
        // The magnitudes, with which a norm begins, are as large as what it is applied to; then it takes the largest of them.
        _ if name.ends_with("_norm_abs") => What::NormInput,
        _ if name.ends_with("_norm_peak") || name.ends_with("_norm_floored") => return None,
        _ => What::Other,
    })
}
