//! The memory that a plan is run with, laid out in advance so that a pass allocates nothing.

use half::f16;

use super::step::Kernel;
use crate::portable::kernel::attention::{self, Visibility};
use crate::portable::kernel::scatter::Changes;
use crate::portable::kernel::{Isa, half_matrix, int8, norm};
use crate::portable::threads::Threads;

/// The working memory of a plan.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Elements of each buffer.
    pub(super) buffers: Vec<usize>,
    /// fp32 elements.
    pub(super) wide: usize,
    /// Heads that are attended to at the same time.
    pub(super) heads: usize,
    /// The largest head: queries, width, positions.
    pub(super) head: (usize, usize, usize),
    /// Contexts whose changed rows are looked for.
    pub(super) contexts: Vec<usize>,
    /// Masks that are looked through: slots and positions.
    pub(super) masks: Vec<(usize, usize)>,
    /// Columns of the widest norm.
    pub(super) columns: usize,
}

impl Needs {
    /// Room for what `kernel` works with.
    pub(super) fn cover(&mut self, kernel: &Kernel) {
        match kernel {
            Kernel::Softmax { extents, .. }
            | Kernel::Reduce { extents, .. }
            | Kernel::LayerNorm { extents, .. } => {
                self.wide = self.wide.max(extents.scratch());
            }
            Kernel::Matmul { product, .. } => self.wide = self.wide.max(product.scratch()),
            Kernel::Attention(attention) => {
                self.heads = self.heads.max(attention.heads.len());
                let queries = attention.length / attention.width.max(1);
                let context = attention.heads.iter().map(|head| head.keys.rows).max().unwrap_or(0);
                let (a, b, c) = self.head;
                self.head = (a.max(queries), b.max(attention.width), c.max(context));
            }
            Kernel::Int8Matrix { .. }
            | Kernel::HalfMatrix { .. }
            | Kernel::Elementwise { .. }
            | Kernel::Copies(_) => {}
        }
    }
}

/// The working memory of one conversation.
#[derive(Debug)]
pub(in crate::portable) struct Scratch {
    pub(super) isa: Isa,
    pub(super) buffers: Vec<Vec<f16>>,
    pub(super) wide: Vec<f32>,
    pub(super) heads: Vec<attention::Scratch>,
    pub(super) changes: Vec<Changes>,
    pub(super) visibilities: Vec<Visibility>,
    pub(super) int8: int8::Columns,
    pub(super) half: half_matrix::Columns,
    pub(super) norm: norm::Scratch,
}

impl Scratch {
    /// Memory for a plan that needs so much.
    pub(super) fn new(needs: &Needs, isa: Isa) -> Self {
        let (queries, width, context) = needs.head;
        Self {
            isa,
            buffers: needs.buffers.iter().map(|&length| vec![f16::ZERO; length]).collect(),
            wide: vec![0.0; needs.wide],
            // Not copies of one: a copied vector has no room to spare.
            heads: (0..needs.heads)
                .map(|_| attention::Scratch::with_capacity(queries, width, context))
                .collect(),
            changes: needs.contexts.iter().map(|&context| Changes::with_capacity(context)).collect(),
            visibilities: needs
                .masks
                .iter()
                .map(|&(slots, context)| Visibility::with_capacity(slots, context))
                .collect(),
            int8: int8::Columns::new(isa),
            half: half_matrix::Columns::new(isa),
            norm: norm::Scratch::with_capacity(needs.columns),
        }
    }

    /// The buffers, and what stands beside them.
    pub(super) fn split<'a>(&'a mut self, threads: &'a Threads) -> (&'a [Vec<f16>], Rest<'a>) {
        let rest = Rest {
            isa: self.isa,
            threads,
            wide: &mut self.wide,
            heads: &mut self.heads,
            visibilities: &self.visibilities,
            int8: &mut self.int8,
            half: &mut self.half,
        };
        (&self.buffers, rest)
    }
}

/// Working memory beside the buffers.
pub(super) struct Rest<'a> {
    pub(super) isa: Isa,
    pub(super) threads: &'a Threads,
    pub(super) wide: &'a mut [f32],
    pub(super) heads: &'a mut [attention::Scratch],
    pub(super) visibilities: &'a [Visibility],
    pub(super) int8: &'a mut int8::Columns,
    pub(super) half: &'a mut half_matrix::Columns,
}
