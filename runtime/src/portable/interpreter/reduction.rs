//! Operators along axes. Position i of a sum is the element's place among those that are combined, in row-major order.

use super::array::{Array, coordinates, offset};
use crate::portable::arith::elementary::exp;
use crate::portable::arith::lanes;
use crate::portable::arith::operator::{maximum, minimum};
use crate::portable::graph::{Reduction, Storage, shape};

pub(super) fn softmax(x: &Array, axis: usize, storage: Storage) -> Array {
    let mut result = vec![0.0; x.shape().iter().product()];
    for line in lines(x.shape(), &[axis]) {
        let largest = line.iter().map(|&at| x.get(at)).reduce(maximum).unwrap_or(0.0);
        let powers: Vec<f32> = line.iter().map(|&at| exp(x.get(at) - largest)).collect();
        let sum = lanes::sum(powers.iter().copied());
        for (&at, &power) in line.iter().zip(&powers) {
            result[at] = power / sum;
        }
    }
    Array::compute(x.shape(), storage, |index| result[index])
}

pub(super) fn reduce(kind: Reduction, x: &Array, axes: &[usize], shape: &[usize], storage: Storage) -> Array {
    let lines = lines(x.shape(), axes);
    Array::compute(shape, storage, |index| {
        let elements = lines[index].iter().map(|&at| x.get(at));
        match kind {
            Reduction::Sum => lanes::sum(elements),
            Reduction::Mean => {
                let count = lines[index].len() as f32;
                lanes::sum(elements) / count
            }
            Reduction::SumSquare => lanes::sum(elements.map(|element| element * element)),
            Reduction::Max => elements.reduce(maximum).unwrap_or(f32::NEG_INFINITY),
            Reduction::Min => elements.reduce(minimum).unwrap_or(f32::INFINITY),
        }
    })
}

pub(super) fn layer_norm(
    x: &Array,
    axes: &[usize],
    gamma: Option<&Array>,
    beta: Option<&Array>,
    epsilon: f32,
    storage: Storage,
) -> Array {
    let mut result = vec![0.0; x.shape().iter().product()];
    for line in lines(x.shape(), axes) {
        let count = line.len() as f32;
        let mean = lanes::sum(line.iter().map(|&at| x.get(at))) / count;
        let square = |at: usize| {
            let difference = x.get(at) - mean;
            difference * difference
        };
        let variance = lanes::sum(line.iter().map(|&at| square(at))) / count;
        let factor = 1.0 / (variance + epsilon).sqrt();
        for (index, &at) in line.iter().enumerate() {
            let normalized = (x.get(at) - mean) * factor;
            let scaled = gamma.map_or(normalized, |gamma| normalized * gamma.get(index));
            result[at] = beta.map_or(scaled, |beta| scaled + beta.get(index));
        }
    }
    Array::compute(x.shape(), storage, |index| result[index])
}

/// The flat indices that are combined, for each element of the result: both in row-major order.
fn lines(shape: &[usize], axes: &[usize]) -> Vec<Vec<usize>> {
    let strides = shape::strides(shape);
    let split = |reduced: bool| -> (Vec<usize>, Vec<usize>) {
        (0..shape.len())
            .filter(|axis| axes.contains(axis) == reduced)
            .map(|axis| (shape[axis], strides[axis]))
            .unzip()
    };
    let ((kept, kept_strides), (reduced, reduced_strides)) = (split(false), split(true));
    let all = |shape: &[usize], strides: &[usize]| -> Vec<usize> {
        (0..shape.iter().product()).map(|index| offset(&coordinates(index, shape), strides)).collect()
    };
    let inside = all(&reduced, &reduced_strides);
    let start = |at: usize| inside.iter().map(|&inside| at + inside).collect();
    all(&kept, &kept_strides).into_iter().map(start).collect()
}
