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
mod run;
mod scratch;
mod step;
#[cfg(test)]
mod tests;
mod view;

use std::time::Instant;

use self::scratch::Needs;
pub(super) use self::scratch::Scratch;
use self::step::Step;
use self::view::{Place, Sources, View};
use super::cache::Cache;
use super::graph::{Constant, Graph};
use super::kernel::Isa;
use super::observe::Watch;
use super::profile::{KernelKind, Stopwatch};
use super::threads::Threads;
use crate::tensor::Tensor;

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
        Scratch::new(&self.needs, isa)
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
}
