//! Operators on elements.

use super::array::{Array, coordinates, offset};
use crate::portable::arith::operator::{Binary, Unary};
use crate::portable::graph::{Storage, shape};

pub(super) fn binary(operator: Binary, x: &Array, y: &Array, shape: &[usize], storage: Storage) -> Array {
    let strides_x = shape::broadcast_strides(x.shape(), shape);
    let strides_y = shape::broadcast_strides(y.shape(), shape);
    Array::compute(shape, storage, |index| {
        let at = coordinates(index, shape);
        operator.apply(x.get(offset(&at, &strides_x)), y.get(offset(&at, &strides_y)))
    })
}

pub(super) fn unary(operator: Unary, x: &Array, storage: Storage) -> Array {
    Array::compute(x.shape(), storage, |index| operator.apply(x.get(index)))
}
