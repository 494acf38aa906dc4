//! The plan: what a graph comes to as a list of kernels, made once when a shard is loaded.
//!
//! It leaves out work that cannot change a bit (rows of a cache that stay, positions that a mask hides), keeps results
//! in buffers that are laid out in advance, and reads weights where they are mapped. Its results are those of
//! [`super::interpreter`], bit for bit.

mod arena;
mod attend;
mod compile;
mod fuse;
mod item;
mod norm;
mod step;
#[cfg(test)]
mod tests;
mod view;

use std::time::Instant;

use half::f16;

use self::attend::{attend, tell_scores};
use self::step::{Kernel, Step};
use self::view::{Place, Sources, View};
use super::cache::Cache;
use super::graph::{Constant, Graph};
use super::kernel::attention::{self, Visibility};
use super::kernel::scatter::{Changes, Scatter, scatter};
use super::kernel::{self, Isa, half_matrix, int8, reduce};
use super::observe::Watch;
use super::profile::{KernelKind, Stopwatch};
use super::threads::Threads;
use crate::tensor::Tensor;

/// Rows that a thread takes at once at least: enough to make up for taking them.
const MIN_ROWS: usize = 64;

/// Rows that a thread takes at once at most, so that none is left waiting for long.
const MAX_ROWS: usize = 192;

/// Pieces per thread, so that one that is held up does not hold up all.
const PIECES: usize = 8;

/// Elements that a thread takes at once where an operator takes long: some two microseconds' worth.
const LONG_PIECE: usize = 2048;

/// As many where operators are short.
const SHORT_PIECE: usize = 8 * LONG_PIECE;

/// Multiplications below which attention is not worth sharing.
const MIN_SHARED: usize = 1 << 14;

/// What a pass is run with, and who looks on.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) threads: &'a Threads,
    pub(super) watch: Option<Watch<'a>>,
    pub(super) stopwatch: Option<Stopwatch<'a>>,
}

/// A graph as kernels.
#[derive(Debug)]
pub(super) struct Plan {
    steps: Vec<Step>,
    /// For each step, the name of the value it computes.
    names: Vec<String>,
    constants: Vec<Constant>,
    outputs: Vec<View>,
    needs: Needs,
}

/// The working memory of a plan.
#[derive(Debug, Default)]
struct Needs {
    /// Elements of each buffer.
    buffers: Vec<usize>,
    /// fp32 elements.
    wide: usize,
    /// Heads that are attended to at the same time.
    heads: usize,
    /// The largest head: queries, width, positions.
    head: (usize, usize, usize),
    /// Contexts whose changed rows are looked for.
    contexts: Vec<usize>,
    /// Masks that are looked through: slots and positions.
    masks: Vec<(usize, usize)>,
    /// Columns of the widest norm.
    columns: usize,
}

impl Needs {
    fn cover(&mut self, kernel: &Kernel) {
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
pub(super) struct Scratch {
    isa: Isa,
    buffers: Vec<Vec<f16>>,
    wide: Vec<f32>,
    heads: Vec<attention::Scratch>,
    changes: Vec<Changes>,
    visibilities: Vec<Visibility>,
    int8: int8::Columns,
    half: half_matrix::Columns,
    norm: kernel::norm::Scratch,
}

impl Plan {
    /// The plan of `graph`; `None` if it is one for the interpreter. One that is watched keeps every result that somebody may want to
    /// see.
    pub(super) fn new(graph: &Graph, watched: bool) -> Option<Self> {
        compile::compile(graph, watched)
    }

    /// Elements of all its buffers.
    pub(super) fn buffer_elements(&self) -> usize {
        self.needs.buffers.iter().sum()
    }

    /// Memory to run it with.
    pub(super) fn scratch(&self, isa: Isa) -> Scratch {
        let needs = &self.needs;
        let (queries, width, context) = needs.head;
        Scratch {
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
            norm: kernel::norm::Scratch::with_capacity(needs.columns),
        }
    }

    /// What step number `step` computes, how, and the bytes of weights it reads.
    pub(super) fn describe(&self, step: usize) -> (&str, KernelKind, usize) {
        let kind = self.steps[step].kind();
        (&self.names[step], kind, self.steps[step].weight_bytes())
    }

    /// Runs it once, watched and timed or not. Inputs, states and outputs stand in the graph's order and have its shapes.
    pub(super) fn run(
        &self,
        scratch: &mut Scratch,
        inputs: &[Tensor],
        caches: &mut [Cache],
        outputs: &mut [Tensor],
        pass: Pass<'_>,
    ) {
        for (index, step) in self.steps.iter().enumerate() {
            let began = pass.stopwatch.map(|_| Instant::now());
            self.step(step, scratch, inputs, caches, pass);
            if let (Some(stopwatch), Some(began)) = (pass.stopwatch, began) {
                stopwatch.lap(self, index, began);
            }
        }
        for (&view, output) in self.outputs.iter().zip(outputs) {
            let alone = self.outputs.iter().filter(|other| other.place == view.place).count() == 1;
            match view.place {
                // A whole buffer changes hands: the logits of a large vocabulary are not worth copying.
                Place::Buffer(buffer)
                    if alone && output.exchange(&mut scratch.buffers[buffer], view.length) => {}
                _ => {
                    let (constants, buffers) = (&self.constants, &scratch.buffers);
                    let sources = Sources { inputs, constants, caches, buffers };
                    output.data_mut().copy_from_slice(sources.get(view));
                }
            }
        }
    }

    fn step(
        &self,
        step: &Step,
        scratch: &mut Scratch,
        inputs: &[Tensor],
        caches: &mut [Cache],
        pass: Pass<'_>,
    ) {
        match *step {
            Step::Compute { ref kernel, output, length, node } => {
                // The buffer is taken out so that the others can be read while it is written.
                let mut out = std::mem::take(&mut scratch.buffers[output]);
                let (buffers, rest) = scratch.split(pass.threads);
                let sources = Sources { inputs, constants: &self.constants, caches, buffers };
                let (isa, visibilities) = (rest.isa, rest.visibilities);
                compute(kernel, sources, rest, &mut out[..length]);
                if let (Some(watch), Some(node)) = (pass.watch, node) {
                    tell(watch, kernel, node, sources, (isa, visibilities));
                    watch.output(node, &out[..length]);
                }
                scratch.buffers[output] = out;
            }
            Step::Norm(ref norm) => {
                let mut out = std::mem::take(&mut scratch.buffers[norm.output]);
                let mut sum =
                    norm.addend.as_ref().map(|addend| std::mem::take(&mut scratch.buffers[addend.sum]));
                let sources =
                    Sources { inputs, constants: &self.constants, caches, buffers: &scratch.buffers };
                norm::run(norm, sources, scratch.isa, (sum.as_deref_mut(), &mut out), &mut scratch.norm);
                scratch.buffers[norm.output] = out;
                if let (Some(addend), Some(sum)) = (&norm.addend, sum) {
                    scratch.buffers[addend.sum] = sum;
                }
            }
            Step::ScanChanges { keep, write, slot } => {
                let sources =
                    Sources { inputs, constants: &self.constants, caches, buffers: &scratch.buffers };
                scratch.changes[slot].scan(sources.get(keep), sources.get(write));
            }
            Step::ScanMask { mask, slot } => {
                let sources =
                    Sources { inputs, constants: &self.constants, caches, buffers: &scratch.buffers };
                scratch.visibilities[slot].scan(scratch.isa, sources.get(mask));
            }
            Step::Scatter { state, changes, keep, write, new } => {
                let mut cache = std::mem::take(&mut caches[state]);
                let sources =
                    Sources { inputs, constants: &self.constants, caches, buffers: &scratch.buffers };
                let tensors =
                    Scatter { keep: sources.get(keep), write: sources.get(write), new: sources.get(new) };
                scatter(&scratch.changes[changes], tensors, &mut cache);
                caches[state] = cache;
            }
            Step::WriteState { state, data } => {
                let mut cache = std::mem::take(&mut caches[state]);
                let sources =
                    Sources { inputs, constants: &self.constants, caches, buffers: &scratch.buffers };
                cache.replace(sources.get(data));
                caches[state] = cache;
            }
        }
    }
}

/// Working memory beside the buffers.
struct Rest<'a> {
    isa: Isa,
    threads: &'a Threads,
    wide: &'a mut [f32],
    heads: &'a mut [attention::Scratch],
    visibilities: &'a [Visibility],
    int8: &'a mut int8::Columns,
    half: &'a mut half_matrix::Columns,
}

impl Scratch {
    fn split<'a>(&'a mut self, threads: &'a Threads) -> (&'a [Vec<f16>], Rest<'a>) {
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

fn compute(kernel: &Kernel, sources: Sources<'_>, rest: Rest<'_>, out: &mut [f16]) {
    let isa = rest.isa;
    match kernel {
        Kernel::Int8Matrix { x, positions, weights, scales, bias } => {
            rest.int8.load(sources.get(*x), *positions);
            let columns = &*rest.int8;
            let bias = bias.as_ref().map(Constant::half);
            let rows =
                int8::Rows { weights: weights.elements(), scales: scales.as_half(), bias: bias.as_deref() };
            let length = columns.length();
            share_rows(rest.threads, out, *positions, |range, out| {
                columns.multiply(rows.slice(range, length), out);
            });
        }
        Kernel::HalfMatrix { x, positions, weights, bias } => {
            rest.half.load(sources.get(*x), *positions);
            let columns = &*rest.half;
            let bias = bias.as_ref().map(Constant::half);
            let (weights, bias) = (weights.as_half(), bias.as_deref());
            let length = columns.length();
            share_rows(rest.threads, out, *positions, |range, out| {
                let weights = &weights[range.start * length..range.end * length];
                columns.multiply(weights, bias.map(|bias| &bias[range]), out);
            });
        }
        Kernel::Elementwise { expression, operands } => {
            let operand = |index: usize| sources.get(operands[index]);
            let piece = if expression.is_long() { LONG_PIECE } else { SHORT_PIECE };
            rest.threads.chunks(out, piece, |index, out| expression.run(isa, operand, index * piece, out));
        }
        Kernel::Softmax { x, extents } => {
            reduce::softmax(isa, *extents, sources.get(*x), out, &mut rest.wide[..extents.scratch()]);
        }
        Kernel::Reduce { kind, x, extents } => {
            reduce::reduce(isa, *kind, *extents, sources.get(*x), out, &mut rest.wide[..extents.scratch()]);
        }
        Kernel::LayerNorm { x, extents, gamma, beta, epsilon } => {
            let gamma = gamma.map(|gamma| sources.get(gamma));
            let beta = beta.map(|beta| sources.get(beta));
            let affine = reduce::Affine { gamma, beta, epsilon: *epsilon };
            reduce::layer_norm(
                isa,
                *extents,
                affine,
                sources.get(*x),
                out,
                &mut rest.wide[..extents.scratch()],
            );
        }
        Kernel::Copies(copies) => copies.iter().for_each(|(view, copy)| copy.run(sources.get(*view), out)),
        Kernel::Matmul { product, x, y } => {
            product.run(isa, sources.get(*x), sources.get(*y), out, &mut rest.wide[..product.scratch()]);
        }
        Kernel::Attention(attention) => attend(attention, sources, rest, out),
    }
}

/// Tells `watch` of what the step of graph node `node` has beside its result.
fn tell(
    watch: Watch<'_>,
    kernel: &Kernel,
    node: usize,
    sources: Sources<'_>,
    (isa, visibilities): (Isa, &[Visibility]),
) {
    match kernel {
        Kernel::Int8Matrix { x, .. } | Kernel::HalfMatrix { x, .. } => watch.input(node, sources.get(*x)),
        Kernel::Attention(attention) => {
            tell_scores(watch, attention, sources, isa, &visibilities[attention.visibility]);
        }
        _ => {}
    }
}

/// Splits the rows of a matrix product among the threads.
fn share_rows(
    threads: &Threads,
    out: &mut [f16],
    columns: usize,
    work: impl Fn(std::ops::Range<usize>, &mut [f16]) + Sync,
) {
    if columns == 0 {
        return;
    }
    let rows = out.len() / columns;
    let piece = rows.div_ceil(threads.count() * PIECES).next_multiple_of(MIN_ROWS).min(MAX_ROWS);
    threads.chunks(out, piece * columns, |index, out| {
        let first = index * piece;
        work(first..first + out.len() / columns, out);
    });
}
