//! One step of a plan after the other.

use half::f16;

use super::attend::{attend, tell_scores};
use super::scratch::{Rest, Scratch};
use super::step::{Kernel, Step};
use super::view::Sources;
use super::{Pass, Plan, norm};
use crate::portable::cache::Cache;
use crate::portable::graph::Constant;
use crate::portable::kernel::attention::Visibility;
use crate::portable::kernel::scatter::{Scatter, scatter};
use crate::portable::kernel::{Isa, int8, reduce};
use crate::portable::observe::Watch;
use crate::portable::threads::Threads;
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

impl Plan {
    /// Runs one step.
    pub(super) fn step(
        &self,
        step: &Step,
        scratch: &mut Scratch,
        inputs: &[Tensor],
        caches: &mut [Cache],
        pass: Pass<'_>,
    ) {
        let constants = &self.constants;
        match *step {
            Step::Compute { ref kernel, output, length, node } => {
                // The buffer is taken out so that the others can be read while it is written.
                let mut out = std::mem::take(&mut scratch.buffers[output]);
                let (buffers, rest) = scratch.split(pass.threads);
                let sources = Sources { inputs, constants, caches, buffers };
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
                let sources = Sources { inputs, constants, caches, buffers: &scratch.buffers };
                norm::run(norm, sources, scratch.isa, (sum.as_deref_mut(), &mut out), &mut scratch.norm);
                scratch.buffers[norm.output] = out;
                if let (Some(addend), Some(sum)) = (&norm.addend, sum) {
                    scratch.buffers[addend.sum] = sum;
                }
            }
            Step::ScanChanges { keep, write, slot } => {
                let sources = Sources { inputs, constants, caches, buffers: &scratch.buffers };
                scratch.changes[slot].scan(sources.get(keep), sources.get(write));
            }
            Step::ScanMask { mask, slot } => {
                let sources = Sources { inputs, constants, caches, buffers: &scratch.buffers };
                scratch.visibilities[slot].scan(scratch.isa, sources.get(mask));
            }
            Step::Scatter { state, changes, keep, write, new } => {
                let mut cache = std::mem::take(&mut caches[state]);
                let sources = Sources { inputs, constants, caches, buffers: &scratch.buffers };
                let tensors =
                    Scatter { keep: sources.get(keep), write: sources.get(write), new: sources.get(new) };
                scatter(&scratch.changes[changes], tensors, &mut cache);
                caches[state] = cache;
            }
            Step::WriteState { state, data } => {
                let mut cache = std::mem::take(&mut caches[state]);
                let sources = Sources { inputs, constants, caches, buffers: &scratch.buffers };
                cache.replace(sources.get(data));
                caches[state] = cache;
            }
        }
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
