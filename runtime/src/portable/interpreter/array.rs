//! Dense tensors of either storage, one scalar at a time.

use half::f16;

use crate::portable::arith::half::round;
use crate::portable::graph::{Storage, shape};

/// Elements in one of the two storages.
#[derive(Debug, Clone, PartialEq)]
enum Elements {
    Half(Vec<f16>),
    Single(Vec<f32>),
}

/// A dense tensor, last axis fastest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    shape: Vec<usize>,
    elements: Elements,
}

impl Array {
    /// A tensor of fp16 elements.
    pub(super) fn half(shape: Vec<usize>, elements: Vec<f16>) -> Self {
        Self { shape, elements: Elements::Half(elements) }
    }

    /// A tensor of fp32 elements.
    pub(super) fn single(shape: Vec<usize>, elements: Vec<f32>) -> Self {
        Self { shape, elements: Elements::Single(elements) }
    }

    /// A computed tensor: each element, given by its index, is rounded once to the storage.
    pub(super) fn compute(shape: &[usize], storage: Storage, element: impl FnMut(usize) -> f32) -> Self {
        let indices = 0..shape.iter().product();
        let elements = match storage {
            Storage::Half => Elements::Half(indices.map(element).map(round).collect()),
            Storage::Single => Elements::Single(indices.map(element).collect()),
        };
        Self { shape: shape.to_vec(), elements }
    }

    /// A tensor whose element at each index is moved, bit for bit, from an element of one of `sources`.
    pub(super) fn gather<'a>(
        shape: &[usize],
        storage: Storage,
        source: impl Fn(usize) -> (&'a Self, usize),
    ) -> Self {
        let indices = 0..shape.iter().product();
        let elements = match storage {
            Storage::Half => Elements::Half(
                indices
                    .map(&source)
                    .map(|(array, at)| match &array.elements {
                        Elements::Half(elements) => elements[at],
                        Elements::Single(elements) => round(elements[at]),
                    })
                    .collect(),
            ),
            Storage::Single => {
                Elements::Single(indices.map(&source).map(|(array, at)| array.get(at)).collect())
            }
        };
        Self { shape: shape.to_vec(), elements }
    }

    /// The same elements under another shape.
    pub(super) fn reshaped(&self, shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), elements: self.elements.clone() }
    }

    /// Extents, slowest first.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element at a flat index, widened.
    pub(super) fn get(&self, index: usize) -> f32 {
        match &self.elements {
            Elements::Half(elements) => elements[index].to_f32(),
            Elements::Single(elements) => elements[index],
        }
    }

    /// The fp16 elements of an fp16 tensor.
    pub(super) fn as_half(&self) -> &[f16] {
        match &self.elements {
            Elements::Half(elements) => elements,
            Elements::Single(_) => &[],
        }
    }
}

/// The coordinates of flat index `index` in a dense tensor of `shape`.
pub(super) fn coordinates(index: usize, shape: &[usize]) -> Vec<usize> {
    shape::strides(shape).iter().zip(shape).map(|(&stride, &extent)| index / stride % extent).collect()
}

/// Σ coordinate · stride.
pub(super) fn offset(coordinates: &[usize], strides: &[usize]) -> usize {
    coordinates.iter().zip(strides).map(|(&coordinate, &stride)| coordinate * stride).sum()
}
