//! Operations that only move elements: views where that will do, copies where not.

use super::Compiler;
use crate::portable::graph::{StateId, ValueId, shape};
use crate::portable::kernel::copy::Copy;
use crate::portable::kernel::reduce::Extents;
use crate::portable::plan::step::Kernel;
use crate::portable::plan::view::{Place, View};

/// Where a slice begins along each axis, how far it moves, and how many elements it has.
pub(super) type Window<'a> = (&'a [usize], &'a [usize], &'a [usize]);

impl Compiler<'_> {
    pub(super) fn transpose(&self, x: ValueId, perm: &[usize]) -> Copy {
        let (own, from) = (shape::strides(self.graph.shape(x)), self.graph.shape(x));
        let extents: Vec<usize> = perm.iter().map(|&axis| from[axis]).collect();
        let strides: Vec<usize> = perm.iter().map(|&axis| own[axis]).collect();
        Copy::new(&extents, (0, &strides), (0, &shape::strides(&extents)))
    }

    /// A copy of `x` with `axes` moved behind the others.
    pub(super) fn moved_to_the_end(&mut self, x: ValueId, axes: &[usize]) -> Option<(Extents, View)> {
        let from = self.graph.shape(x).to_vec();
        let kept = (0..from.len()).filter(|axis| !axes.contains(axis));
        let perm: Vec<usize> = kept.clone().chain(axes.iter().copied()).collect();
        let (source, copy) = (self.view(x)?, self.transpose(x, &perm));
        let view = self.buffer(source.length);
        self.compute_into(view, Kernel::Copies(vec![(source, copy)]), None);
        let extents = Extents {
            outer: kept.map(|axis| from[axis]).product(),
            k: axes.iter().map(|&axis| from[axis]).product(),
            inner: 1,
        };
        Some((extents, view))
    }

    pub(super) fn slice(
        &mut self,
        x: ValueId,
        (begin, step, extents): Window<'_>,
        output: ValueId,
    ) -> Option<()> {
        let view = self.view(x)?;
        let (start, strides) = window(self.graph.shape(x), begin, step);
        let copy = Copy::new(extents, (start, &strides), (0, &shape::strides(extents)));
        match copy.contiguous() {
            Some(length) if self.graph.count(output) == length => {
                self.views.insert(output, View { start: view.start + copy.source(), length, ..view });
            }
            _ => self.compute(output, Kernel::Copies(vec![(view, copy)])),
        }
        Some(())
    }

    pub(super) fn slice_update(
        &mut self,
        x: ValueId,
        update: ValueId,
        (begin, step, extents): Window<'_>,
        output: ValueId,
    ) -> Option<()> {
        let (whole, part) = (self.view(x)?, self.view(update)?);
        let (start, strides) = window(self.graph.shape(x), begin, step);
        let replace = Copy::new(extents, (0, &shape::strides(extents)), (start, &strides));
        self.compute(output, Kernel::Copies(vec![(whole, all(whole.length)), (part, replace)]));
        Some(())
    }

    pub(super) fn concat(&mut self, values: &[ValueId], axis: usize, output: ValueId) -> Option<()> {
        let strides = shape::strides(self.graph.shape(output));
        let mut start = 0;
        let mut copies = Vec::new();
        for &value in values {
            let own = self.graph.shape(value);
            let copy = Copy::new(own, (0, &shape::strides(own)), (start, &strides));
            start += own[axis] * strides[axis];
            copies.push((self.view(value)?, copy));
        }
        self.compute(output, Kernel::Copies(copies));
        Some(())
    }

    /// What a state holds at `item`: the state itself, unless it is written before the last use of what was read.
    pub(super) fn read_state(&mut self, item: usize, state: StateId, output: ValueId) {
        let length = self.graph.count(output);
        let view = View { place: Place::State(state.0), start: 0, length };
        let last_use = self.last_uses.get(&output).copied().unwrap_or(item);
        let mut later = self.items.iter().enumerate().skip(item + 1);
        if later.any(|(index, other)| index <= last_use && other.written(self.graph) == Some(state)) {
            self.compute(output, Kernel::Copies(vec![(view, all(length))]));
        } else {
            self.views.insert(output, view);
        }
    }
}

/// A copy of `length` elements as they stand.
fn all(length: usize) -> Copy {
    Copy::new(&[length], (0, &[1]), (0, &[1]))
}

/// Where a slice begins in a dense tensor of `shape`, and how far it moves along each axis.
fn window(shape: &[usize], begin: &[usize], step: &[usize]) -> (usize, Vec<usize>) {
    let strides = shape::strides(shape);
    let start = begin.iter().zip(&strides).map(|(&begin, &stride)| begin * stride).sum();
    (start, strides.iter().zip(step).map(|(&stride, &step)| stride * step).collect())
}
