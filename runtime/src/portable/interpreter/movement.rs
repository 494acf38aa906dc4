//! Operators that only move elements: bits stay what they are.

use super::array::{Array, coordinates, offset};
use crate::portable::graph::{Storage, shape};

pub(super) fn cast(x: &Array, storage: Storage) -> Array {
    Array::compute(x.shape(), storage, |index| x.get(index))
}

pub(super) fn transpose(x: &Array, perm: &[usize], shape: &[usize], storage: Storage) -> Array {
    let own = shape::strides(x.shape());
    let strides: Vec<usize> = perm.iter().map(|&axis| own[axis]).collect();
    Array::gather(shape, storage, |index| (x, offset(&coordinates(index, shape), &strides)))
}

pub(super) fn slice(
    x: &Array,
    begin: &[usize],
    step: &[usize],
    extents: &[usize],
    storage: Storage,
) -> Array {
    Array::gather(extents, storage, |index| (x, place(index, x.shape(), begin, step, extents)))
}

pub(super) fn slice_update(
    x: &Array,
    update: &Array,
    begin: &[usize],
    step: &[usize],
    extents: &[usize],
    storage: Storage,
) -> Array {
    let mut sources: Vec<(&Array, usize)> = (0..x.shape().iter().product()).map(|index| (x, index)).collect();
    for index in 0..extents.iter().product() {
        sources[place(index, x.shape(), begin, step, extents)] = (update, index);
    }
    Array::gather(x.shape(), storage, |index| sources[index])
}

/// The flat index in a tensor of `shape` of element `index` of a slice.
fn place(index: usize, shape: &[usize], begin: &[usize], step: &[usize], extents: &[usize]) -> usize {
    let at: Vec<usize> = coordinates(index, extents)
        .iter()
        .zip(begin.iter().zip(step))
        .map(|(&coordinate, (&begin, &step))| begin + coordinate * step)
        .collect();
    offset(&at, &shape::strides(shape))
}

pub(super) fn concat(arrays: &[&Array], axis: usize, shape: &[usize], storage: Storage) -> Array {
    Array::gather(shape, storage, |index| {
        let mut at = coordinates(index, shape);
        let mut part = 0;
        while at[axis] >= arrays[part].shape()[axis] {
            at[axis] -= arrays[part].shape()[axis];
            part += 1;
        }
        (arrays[part], offset(&at, &shape::strides(arrays[part].shape())))
    })
}
