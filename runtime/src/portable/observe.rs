//! Looking at what passes compute, value by value, while they compute it.
//!
//! Overflow, saturation and NaN begin somewhere in the middle of a shard and only show at its end, if at all. An [`Observer`] is
//! told of every result on the way. It is handed numbers and cannot change them, and a device without one does not look.
//!
//! The plan leaves out or fuses operations, so it tells of less than the interpreter: views of other results (reshapes, slices
//! that move nothing) are not told of, nor is what attention and cache updates have inside, but for the scores. Each value that
//! both tell of is the same.

use std::fmt::Debug;
use std::path::Path;

use half::f16;

use super::graph::{Convolution, Graph, Matrix, Op, Storage, ValueId};

/// Is told of what passes compute.
///
/// Called on the thread that runs the pass, in the order in which results come to be. Whatever it does takes the pass's time.
pub trait Observer: Debug + Send + Sync {
    /// One result, or what a convolution is applied to.
    fn observe(&self, observed: &Observed<'_>);
}

/// One tensor of a pass.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The `.mlmodelc` folder of the shard.
    pub shard: &'a Path,
    /// The function's name.
    pub function: &'a str,
    /// The operation, by the name that the program gives its result.
    pub operation: &'a str,
    /// What it does.
    pub kind: Kind,
    /// Which of its tensors this is.
    pub side: Side,
    /// Extents, slowest first.
    pub shape: &'a [usize],
    /// The elements, last axis fastest. Results in fp32 are not told of; shards have none.
    pub values: &'a [f16],
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Multiplies an int8 matrix with scales.
    Int8Convolution,
    /// Multiplies an fp16 matrix.
    HalfConvolution,
    /// Computes each element from elements at the same place.
    Elementwise,
    /// Combines elements along axes: sums, softmax, norms.
    Reduction,
    /// Multiplies two tensors.
    Product,
    /// Multiplies queries with keys, inside attention. `[1, heads, T, n]` before scale and mask, of the first n positions of the
    /// context, behind which no slot sees any; zero where the mask hides a position.
    Scores,
    /// Moves elements and computes nothing.
    Movement,
}

/// Which tensor of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// What a convolution is applied to, `[1, channels, …]`.
    Input,
    /// The result.
    Output,
}

impl Kind {
    fn of(op: &Op) -> Self {
        match op {
            Op::Convolution(Convolution { weight: Matrix::Int8 { .. }, .. }) => Self::Int8Convolution,
            Op::Convolution(Convolution { weight: Matrix::Half(_), .. }) => Self::HalfConvolution,
            Op::Binary(..) | Op::Unary(..) => Self::Elementwise,
            Op::Softmax { .. } | Op::Reduce { .. } | Op::LayerNorm { .. } => Self::Reduction,
            Op::Matmul { .. } => Self::Product,
            Op::Cast(_)
            | Op::Reshape(_)
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::SliceUpdate { .. }
            | Op::Concat { .. }
            | Op::ReadState(_)
            | Op::WriteState(..) => Self::Movement,
        }
    }
}

/// An observer of one function's passes.
#[derive(Clone, Copy)]
pub(super) struct Watch<'a> {
    pub(super) observer: &'a dyn Observer,
    pub(super) shard: &'a Path,
    pub(super) graph: &'a Graph,
}

impl Watch<'_> {
    /// Tells of what node number `node` computed.
    pub(super) fn output(&self, node: usize, values: &[f16]) {
        let node = &self.graph.nodes[node];
        if let Some(output) = node.output
            && self.graph.value(output).storage == Storage::Half
        {
            let shape = self.graph.shape(output);
            self.tell(output, Kind::of(&node.op), Side::Output, shape, values);
        }
    }

    /// Tells of what node number `node`, a convolution, is applied to.
    pub(super) fn input(&self, node: usize, values: &[f16]) {
        let node = &self.graph.nodes[node];
        if let (Op::Convolution(convolution), Some(output)) = (&node.op, node.output) {
            self.tell(output, Kind::of(&node.op), Side::Input, self.graph.shape(convolution.x), values);
        }
    }

    /// Tells of a head's scores, [`Kind::Scores`], whose product is `value`.
    pub(super) fn scores(&self, value: ValueId, shape: &[usize], values: &[f16]) {
        self.tell(value, Kind::Scores, Side::Output, shape, values);
    }

    fn tell(&self, value: ValueId, kind: Kind, side: Side, shape: &[usize], values: &[f16]) {
        let Self { observer, shard, graph } = *self;
        let (function, operation) = (graph.function.as_str(), graph.value(value).name.as_str());
        observer.observe(&Observed { shard, function, operation, kind, side, shape, values });
    }
}
