//! Matrix products.

use half::f16;

use super::array::{Array, coordinates, offset};
use crate::portable::arith::half::round;
use crate::portable::arith::{fixed, lanes};
use crate::portable::graph::{Convolution, Matrix, Storage, shape};

pub(super) fn convolution(convolution: &Convolution, x: &Array, shape: &[usize]) -> Array {
    let (channels, rows) = (x.shape()[1], shape[1]);
    let space: usize = shape[2..].iter().product();
    let bias = convolution.bias.as_ref().map(|bias| bias.single());
    let add_bias = |row: usize, product: f32| bias.as_ref().map_or(product, |bias| product + bias[row]);
    let mut result = vec![f16::ZERO; shape.iter().product()];
    for batch in 0..shape[0] {
        for position in 0..space {
            let column: Vec<f16> = (0..channels)
                .map(|channel| x.as_half()[(batch * channels + channel) * space + position])
                .collect();
            for row in 0..rows {
                let range = row * channels..(row + 1) * channels;
                let product = match &convolution.weight {
                    Matrix::Int8 { weights, scales } => {
                        let scales = scales.half();
                        let scale = if scales.len() == 1 { scales[0] } else { scales[row] };
                        fixed::product(&weights.elements()[range], scale, &column)
                    }
                    Matrix::Half(weights) => {
                        let weights = weights.half();
                        lanes::sum(weights[range].iter().zip(&column).map(|(w, x)| w.to_f32() * x.to_f32()))
                    }
                };
                result[(batch * rows + row) * space + position] = round(add_bias(row, product));
            }
        }
    }
    Array::half(shape.to_vec(), result)
}

pub(super) fn matmul(
    x: &Array,
    y: &Array,
    transpose_x: bool,
    transpose_y: bool,
    shape: &[usize],
    storage: Storage,
) -> Array {
    let rank = shape.len();
    let x_matrix = Matrices::of(x, transpose_x, &shape[..rank - 2]);
    let y_matrix = Matrices::of(y, transpose_y, &shape[..rank - 2]);
    Array::compute(shape, storage, |index| {
        let at = coordinates(index, shape);
        let (batch, row, column) = (&at[..rank - 2], at[rank - 2], at[rank - 1]);
        lanes::sum(
            (0..x_matrix.columns).map(|k| x_matrix.get(batch, row, k) * y_matrix.get(batch, k, column)),
        )
    })
}

/// A tensor as matrices, one for each index of a batch it broadcasts to.
struct Matrices<'a> {
    array: &'a Array,
    batch_strides: Vec<usize>,
    row_stride: usize,
    column_stride: usize,
    columns: usize,
}

impl<'a> Matrices<'a> {
    fn of(array: &'a Array, transpose: bool, batch: &[usize]) -> Self {
        let own = array.shape();
        let (outer, inner) = own.split_at(own.len() - 2);
        let mut batch_strides = shape::broadcast_strides(outer, batch);
        for stride in &mut batch_strides {
            *stride *= inner[0] * inner[1];
        }
        let (row_stride, column_stride, columns) =
            if transpose { (1, inner[1], inner[0]) } else { (inner[1], 1, inner[1]) };
        Self { array, batch_strides, row_stride, column_stride, columns }
    }

    fn get(&self, batch: &[usize], row: usize, column: usize) -> f32 {
        let start = offset(batch, &self.batch_strides);
        self.array.get(start + row * self.row_stride + column * self.column_stride)
    }
}
