//! The steps of a plan.

use half::f16;

use super::view::View;
use crate::portable::graph::constant::Int8;
use crate::portable::graph::{Constant, Reduction, ValueId};
use crate::portable::kernel::copy::Copy;
use crate::portable::kernel::elementwise::Expression;
use crate::portable::kernel::matmul::Matmul;
use crate::portable::kernel::norm;
use crate::portable::kernel::reduce::Extents;
use crate::portable::profile::KernelKind;

/// One kernel with its operands.
#[derive(Debug)]
pub(super) enum Step {
    /// Writes a buffer.
    Compute {
        /// How.
        kernel: Kernel,
        /// The buffer.
        output: usize,
        /// The elements it writes.
        length: usize,
        /// The graph's node whose result it is; absent for a copy that no node asks for.
        node: Option<usize>,
    },
    /// A norm, and the addition before it.
    Norm(Norm),
    /// Finds the rows of a context that a pass changes.
    ScanChanges {
        /// `[context]`.
        keep: View,
        /// `[context, slots]`.
        write: View,
        /// Where the result is kept.
        slot: usize,
    },
    /// Updates a state in place.
    Scatter {
        /// The state.
        state: usize,
        /// What [`Step::ScanChanges`] found.
        changes: usize,
        /// `[context]`.
        keep: View,
        /// `[context, slots]`.
        write: View,
        /// `[heads, slots, width]`.
        new: View,
    },
    /// Finds the blocks of a context that a mask shows.
    ScanMask {
        /// `[slots, context]`.
        mask: View,
        /// Where the result is kept.
        slot: usize,
    },
    /// Replaces a state.
    WriteState {
        /// The state.
        state: usize,
        /// Its new elements.
        data: View,
    },
}

/// What computes a buffer.
#[derive(Debug)]
pub(super) enum Kernel {
    /// An int8 matrix times the columns of `x`.
    Int8Matrix {
        /// `[channels, positions]`.
        x: View,
        positions: usize,
        weights: Int8,
        scales: Constant,
        bias: Option<Constant>,
    },
    /// An fp16 matrix times the columns of `x`.
    HalfMatrix {
        /// `[channels, positions]`.
        x: View,
        positions: usize,
        weights: Constant,
        bias: Option<Constant>,
    },
    /// Elementwise operations in one sweep.
    Elementwise {
        expression: Expression,
        /// In the order of its terms.
        operands: Vec<View>,
    },
    Softmax {
        x: View,
        extents: Extents,
    },
    Reduce {
        kind: Reduction,
        x: View,
        extents: Extents,
    },
    LayerNorm {
        x: View,
        extents: Extents,
        gamma: Option<View>,
        beta: Option<View>,
        epsilon: f32,
    },
    /// Moves elements; several copies may write parts of one buffer.
    Copies(Vec<(View, Copy)>),
    Matmul {
        product: Matmul,
        x: View,
        y: View,
    },
    Attention(Attention),
}

/// A norm, of `x` or of a sum with it.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) constants: norm::Norm,
    /// `[channels, columns]`.
    pub(super) x: View,
    pub(super) addend: Option<Addend>,
    /// `[channels]`.
    pub(super) weight: View,
    /// The buffer it writes.
    pub(super) output: usize,
    /// Elements of `x`, and of every result.
    pub(super) length: usize,
}

/// What is added first.
#[derive(Debug)]
pub(super) struct Addend {
    /// `[channels, columns]`.
    pub(super) y: View,
    /// The buffer of the sum, which is a result too.
    pub(super) sum: usize,
}

/// Attention of several heads into one buffer.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) heads: Vec<Head>,
    /// `[slots, context]`.
    pub(super) mask: View,
    /// What [`Step::ScanMask`] found.
    pub(super) visibility: usize,
    pub(super) scale: Option<f16>,
    pub(super) width: usize,
    /// Elements each head writes.
    pub(super) length: usize,
}

/// One KV head with the query heads that share it.
#[derive(Debug)]
pub(super) struct Head {
    /// `[share, slots, width]`.
    pub(super) queries: View,
    pub(super) keys: CacheHead,
    pub(super) values: CacheHead,
    /// The product of queries and keys in the graph.
    pub(super) scores: ValueId,
}

/// A head of a state.
#[derive(Debug, Clone, Copy)]
pub(super) struct CacheHead {
    pub(super) state: usize,
    /// Its first row among all rows of the state.
    pub(super) first_row: usize,
    pub(super) rows: usize,
}

impl Kernel {
    fn kind(&self) -> KernelKind {
        match self {
            Self::Int8Matrix { .. } => KernelKind::Int8Matrix,
            Self::HalfMatrix { .. } => KernelKind::HalfMatrix,
            Self::Elementwise { .. } => KernelKind::Elementwise,
            Self::Softmax { .. } | Self::Reduce { .. } => KernelKind::Reduction,
            Self::LayerNorm { .. } => KernelKind::Norm,
            Self::Copies(_) => KernelKind::Movement,
            Self::Matmul { .. } => KernelKind::Product,
            Self::Attention(_) => KernelKind::Attention,
        }
    }

    /// Every view it reads.
    pub(super) fn views(&mut self) -> Vec<&mut View> {
        match self {
            Self::Int8Matrix { x, .. }
            | Self::HalfMatrix { x, .. }
            | Self::Softmax { x, .. }
            | Self::Reduce { x, .. } => vec![x],
            Self::LayerNorm { x, gamma, beta, .. } => {
                [Some(x), gamma.as_mut(), beta.as_mut()].into_iter().flatten().collect()
            }
            Self::Elementwise { operands, .. } => operands.iter_mut().collect(),
            Self::Copies(copies) => copies.iter_mut().map(|(view, _)| view).collect(),
            Self::Matmul { x, y, .. } => vec![x, y],
            Self::Attention(attention) => attention
                .heads
                .iter_mut()
                .map(|head| &mut head.queries)
                .chain([&mut attention.mask])
                .collect(),
        }
    }
}

impl Step {
    /// What it does.
    pub(super) fn kind(&self) -> KernelKind {
        match self {
            Self::Compute { kernel, .. } => kernel.kind(),
            Self::Norm(_) => KernelKind::Norm,
            Self::Scatter { .. } | Self::WriteState { .. } => KernelKind::CacheUpdate,
            Self::ScanChanges { .. } | Self::ScanMask { .. } => KernelKind::Masks,
        }
    }

    /// Bytes of weights that it reads.
    pub(super) fn weight_bytes(&self) -> usize {
        let half = |constant: &Constant| size_of_val(constant.as_half());
        match self {
            Self::Compute { kernel: Kernel::Int8Matrix { weights, scales, bias, .. }, .. } => {
                weights.elements().len() + half(scales) + bias.as_ref().map_or(0, half)
            }
            Self::Compute { kernel: Kernel::HalfMatrix { weights, bias, .. }, .. } => {
                half(weights) + bias.as_ref().map_or(0, half)
            }
            _ => 0,
        }
    }

    /// Every view it reads.
    pub(super) fn views(&mut self) -> Vec<&mut View> {
        match self {
            Self::Compute { kernel, .. } => kernel.views(),
            Self::Norm(Norm { x, addend, weight, .. }) => {
                let addend = addend.as_mut().map(|addend| &mut addend.y);
                [Some(x), addend, Some(weight)].into_iter().flatten().collect()
            }
            Self::ScanChanges { keep, write, .. } => vec![keep, write],
            Self::Scatter { keep, write, new, .. } => vec![keep, write, new],
            Self::ScanMask { mask, .. } => vec![mask],
            Self::WriteState { data, .. } => vec![data],
        }
    }

    /// Every buffer it writes.
    pub(super) fn outputs(&mut self) -> Vec<&mut usize> {
        match self {
            Self::Compute { output, .. } => vec![output],
            Self::Norm(Norm { addend, output, .. }) => {
                addend.as_mut().map(|addend| &mut addend.sum).into_iter().chain([output]).collect()
            }
            Self::ScanChanges { .. }
            | Self::Scatter { .. }
            | Self::ScanMask { .. }
            | Self::WriteState { .. } => Vec::new(),
        }
    }
}
