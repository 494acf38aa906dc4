//! What a plan is made of before it has memory: operations of a graph, alone or several as one.

use half::f16;

use super::norm::Norm;
use crate::portable::graph::{Graph, Op, StateId, ValueId};
use crate::portable::kernel::elementwise::Term;

/// One or several operations of a graph, carried out at the place of the last.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// An operation as it stands: an index into the graph's nodes.
    Node(usize),
    /// `state = state · keep + write × new`.
    Scatter(Scatter),
    /// Attention of some heads; their results stand one after the other in `output`.
    Attention(Attention),
    /// One or several elementwise operations, all of whose results have the shape of `output`.
    Elementwise(Elementwise),
    /// A norm, and the addition before it if that is its own to carry out.
    Norm(Norm),
}

#[derive(Debug, Clone)]
pub(super) struct Elementwise {
    /// In postfix order.
    pub(super) terms: Vec<Term>,
    /// In the order of the terms.
    pub(super) operands: Vec<ValueId>,
    pub(super) output: ValueId,
    /// The node that computes `output`.
    pub(super) node: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Scatter {
    pub(super) state: StateId,
    /// `[1, 1, context, 1]`.
    pub(super) keep: ValueId,
    /// `[1, 1, context, slots]`.
    pub(super) write: ValueId,
    /// `[1, heads, slots, width]`.
    pub(super) new: ValueId,
    /// What the state becomes.
    pub(super) sum: ValueId,
}

#[derive(Debug, Clone)]
pub(super) struct Attention {
    pub(super) heads: Vec<Head>,
    /// `[1, 1, slots, context]`.
    pub(super) mask: ValueId,
    pub(super) scale: Option<f16>,
    pub(super) slots: usize,
    pub(super) context: usize,
    pub(super) width: usize,
    pub(super) output: ValueId,
    /// The node that computes `output`.
    pub(super) node: usize,
}

/// One KV head with the query heads that share it.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// `[1, share, slots, width]`.
    pub(super) queries: ValueId,
    /// `[1, 1, context, width]`.
    pub(super) keys: ValueId,
    /// `[1, 1, context, width]`.
    pub(super) values: ValueId,
    /// The product of queries and keys, `[1, share, slots, context]`.
    pub(super) scores: ValueId,
}

impl Item {
    /// The values it reads.
    pub(super) fn operands(&self, graph: &Graph) -> Vec<ValueId> {
        match self {
            Self::Node(node) => graph.nodes[*node].op.operands(),
            Self::Scatter(scatter) => vec![scatter.keep, scatter.write, scatter.new],
            Self::Attention(attention) => {
                let heads = attention.heads.iter().flat_map(|head| [head.queries, head.keys, head.values]);
                heads.chain([attention.mask]).collect()
            }
            Self::Elementwise(elementwise) => elementwise.operands.clone(),
            Self::Norm(norm) => norm.operands(),
        }
    }

    /// The value it computes; of a norm that adds first, not the sum.
    pub(super) fn output(&self, graph: &Graph) -> Option<ValueId> {
        match self {
            Self::Node(node) => graph.nodes[*node].output,
            Self::Scatter(_) => None,
            Self::Attention(attention) => Some(attention.output),
            Self::Elementwise(elementwise) => Some(elementwise.output),
            Self::Norm(norm) => Some(norm.output),
        }
    }

    /// The value that it is named for: its output, or what a state becomes.
    pub(super) fn value(&self, graph: &Graph) -> Option<ValueId> {
        match self {
            Self::Node(node) => match graph.nodes[*node].op {
                Op::WriteState(_, data) => Some(data),
                _ => graph.nodes[*node].output,
            },
            Self::Scatter(scatter) => Some(scatter.sum),
            Self::Attention(attention) => Some(attention.output),
            Self::Elementwise(elementwise) => Some(elementwise.output),
            Self::Norm(norm) => Some(norm.output),
        }
    }

    /// The state it replaces or updates.
    pub(super) fn written(&self, graph: &Graph) -> Option<StateId> {
        match self {
            Self::Node(node) => match graph.nodes[*node].op {
                Op::WriteState(state, _) => Some(state),
                _ => None,
            },
            Self::Scatter(scatter) => Some(scatter.state),
            Self::Attention(_) | Self::Elementwise(_) | Self::Norm(_) => None,
        }
    }
}
