//! Where the values of a plan lie.

use half::f16;

use crate::portable::cache::Cache;
use crate::portable::graph::Constant;
use crate::tensor::Tensor;

/// What holds elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// An input tensor.
    Input(usize),
    /// A constant.
    Constant(usize),
    /// A state, as it is at that time.
    State(usize),
    /// A buffer of the arena.
    Buffer(usize),
}

/// A run of elements in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) place: Place,
    pub(super) start: usize,
    pub(super) length: usize,
}

/// Everything a step may read.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) inputs: &'a [Tensor],
    pub(super) constants: &'a [Constant],
    pub(super) caches: &'a [Cache],
    pub(super) buffers: &'a [Vec<f16>],
}

impl<'a> Sources<'a> {
    /// The elements of `view`.
    pub(super) fn get(&self, view: View) -> &'a [f16] {
        let all = match view.place {
            Place::Input(index) => self.inputs[index].data(),
            Place::Constant(index) => self.constants[index].as_half(),
            Place::State(index) => self.caches[index].elements(),
            Place::Buffer(index) => &self.buffers[index],
        };
        &all[view.start..view.start + view.length]
    }
}
