//! A function of an ML Program, checked and ready to run.
//!
//! [`lower`](mod@lower) turns MIL operations into a few typed ones with resolved parameters and known shapes. Whatever can be wrong
//! with a program is found there, by name; the interpreter and the plan that run a [`Graph`] cannot fail on it.

pub mod constant;
pub mod error;
mod lower;
mod parameters;
mod rules;
pub mod shape;

pub use constant::{Constant, Matrix};
pub use error::ProgramError;
pub use lower::lower;

use crate::portable::arith::operator::{Binary, Unary};

/// A value of a [`Graph`]: an index into [`Graph::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// A state of a [`Graph`]: an index into [`Graph::states`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateId(pub usize);

/// How elements are stored between operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// IEEE binary16.
    Half,
    /// IEEE binary32.
    Single,
}

/// A tensor that is computed once a run, passed in, or constant.
#[derive(Debug, Clone)]
pub struct Value {
    /// Its name in the program.
    pub name: String,
    /// How its elements are stored.
    pub storage: Storage,
    /// Extents, slowest first.
    pub shape: Vec<usize>,
    /// Its elements, if they are known now.
    pub constant: Option<Constant>,
}

/// A buffer that outlives a run; fp16.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateShape {
    /// Its name in the program.
    pub name: String,
    /// Extents, slowest first.
    pub shape: Vec<usize>,
}

/// How a reduction combines elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Σ x.
    Sum,
    /// Σ x / n.
    Mean,
    /// Σ x².
    SumSquare,
    /// The largest; NaN if any is.
    Max,
    /// The smallest; NaN if any is.
    Min,
}

/// A 1x1 convolution: a matrix applied to the channels at every position.
#[derive(Debug, Clone)]
pub struct Convolution {
    /// Input `[batch, channels, …]`.
    pub x: ValueId,
    /// `[rows, channels]`.
    pub weight: Matrix,
    /// One value per row.
    pub bias: Option<Constant>,
}

/// One typed operation.
#[derive(Debug, Clone)]
pub enum Op {
    /// A matrix applied at every position.
    Convolution(Convolution),
    /// An elementwise operator of two operands that broadcast.
    Binary(Binary, ValueId, ValueId),
    /// An elementwise operator of one operand.
    Unary(Unary, ValueId),
    /// The same numbers in the other storage.
    Cast(ValueId),
    /// e^(x − max) / Σ e^(x − max) along one axis.
    Softmax {
        /// Input.
        x: ValueId,
        /// The axis.
        axis: usize,
    },
    /// Combines the elements along some axes.
    Reduce {
        /// How.
        kind: Reduction,
        /// Input.
        x: ValueId,
        /// The axes, ascending.
        axes: Vec<usize>,
    },
    /// (x − mean) / √(variance + epsilon) · gamma + beta along some axes.
    LayerNorm {
        /// Input.
        x: ValueId,
        /// The axes, ascending.
        axes: Vec<usize>,
        /// Factor, of the normalized axes' extents.
        gamma: Option<ValueId>,
        /// Term, of the normalized axes' extents.
        beta: Option<ValueId>,
        /// Added to the variance.
        epsilon: f32,
    },
    /// The same elements in the same order under the output's shape.
    Reshape(ValueId),
    /// Output axis i is input axis `perm[i]`.
    Transpose {
        /// Input.
        x: ValueId,
        /// Permutation of the axes.
        perm: Vec<usize>,
    },
    /// Elements `begin[i] + j · step[i]` along each axis; the output's shape says how many.
    Slice {
        /// Input.
        x: ValueId,
        /// First element along each axis of the input.
        begin: Vec<usize>,
        /// Distance of elements along each axis.
        step: Vec<usize>,
        /// The extents before axes are dropped from the shape.
        extents: Vec<usize>,
    },
    /// The input with the elements of a slice replaced.
    SliceUpdate {
        /// Input.
        x: ValueId,
        /// What replaces them.
        update: ValueId,
        /// First element along each axis.
        begin: Vec<usize>,
        /// Distance of elements along each axis.
        step: Vec<usize>,
        /// The slice's extents.
        extents: Vec<usize>,
    },
    /// Tensors one after the other along an axis.
    Concat {
        /// The tensors.
        values: Vec<ValueId>,
        /// The axis.
        axis: usize,
    },
    /// Matrix products over the last two axes; the others broadcast.
    Matmul {
        /// Left `[…, m, k]`, or `[…, k, m]` if transposed.
        x: ValueId,
        /// Right `[…, k, n]`, or `[…, n, k]` if transposed.
        y: ValueId,
        /// Whether the left one's last two axes are swapped.
        transpose_x: bool,
        /// Whether the right one's last two axes are swapped.
        transpose_y: bool,
    },
    /// The state's content.
    ReadState(StateId),
    /// Replaces the state's content.
    WriteState(StateId, ValueId),
}

impl Op {
    /// The values it reads, in no particular order, repeated if used twice.
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Self::Convolution(conv) => vec![conv.x],
            Self::Binary(_, x, y) | Self::Matmul { x, y, .. } => vec![*x, *y],
            Self::Unary(_, x)
            | Self::Cast(x)
            | Self::Reshape(x)
            | Self::Softmax { x, .. }
            | Self::Reduce { x, .. }
            | Self::Transpose { x, .. }
            | Self::Slice { x, .. }
            | Self::WriteState(_, x) => vec![*x],
            Self::LayerNorm { x, gamma, beta, .. } => {
                [Some(*x), *gamma, *beta].into_iter().flatten().collect()
            }
            Self::SliceUpdate { x, update, .. } => vec![*x, *update],
            Self::Concat { values, .. } => values.clone(),
            Self::ReadState(_) => Vec::new(),
        }
    }
}

/// One step of a [`Graph`].
#[derive(Debug, Clone)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// What it computes; nothing for [`Op::WriteState`].
    pub output: Option<ValueId>,
}

/// A function, ready to run: nodes in order, each using only what stands before it.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The function's name.
    pub function: String,
    /// Every tensor.
    pub values: Vec<Value>,
    /// Tensors that are passed in, in program order.
    pub inputs: Vec<ValueId>,
    /// Tensors that are passed out, in program order.
    pub outputs: Vec<ValueId>,
    /// Buffers that outlive a run, in program order.
    pub states: Vec<StateShape>,
    /// The steps.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// The value `id` stands for.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The shape of `id`.
    pub fn shape(&self, id: ValueId) -> &[usize] {
        &self.values[id.0].shape
    }

    /// The number of elements of `id`.
    pub fn count(&self, id: ValueId) -> usize {
        self.shape(id).iter().product()
    }
}
