//! A matrix streamed through the quantizer.

use half::f16;
use rayon::prelude::*;

use super::arithmetic::{self, ErrorSums};
use super::{Quantization, QuantizeError};
use crate::stages::extract::Matrix;
use crate::tensors::TensorWriter;

/// A matrix of the model file, and where it goes.
pub(super) struct Stored<'a> {
    pub(super) matrix: &'a Matrix<'a>,
    pub(super) writer: &'a TensorWriter,
    /// Position of the values among the writer's tensors; the scales follow.
    pub(super) output: usize,
}

/// What one thread works in.
#[derive(Default)]
struct Buffers {
    halves: Vec<f16>,
    floats: Vec<f32>,
    values: Vec<i8>,
    scales: Vec<f16>,
}

impl Stored<'_> {
    /// Writes the matrix as `quantization` stores it.
    pub(super) fn quantize(&self, quantization: Quantization) -> Result<ErrorSums, QuantizeError> {
        let [_, columns] = self.matrix.shape();
        let pieces = match quantization {
            Quantization::F16 => self.each_piece(|first_row, buffers| {
                self.largest(first_row, &buffers.halves)?;
                let offset = (first_row * columns * size_of::<f16>()) as u64;
                self.writer.write_at(self.output, offset, bytemuck::cast_slice(&buffers.halves))?;
                Ok(ErrorSums::default())
            })?,
            Quantization::Int8 => {
                self.each_piece(|first_row, buffers| self.quantize_rows(first_row, buffers, None))?
            }
            Quantization::Int8PerTensor => {
                let largest =
                    self.each_piece(|first_row, buffers| self.largest(first_row, &buffers.halves))?;
                // Magnitudes are finite here, so the order of their bits is theirs.
                let largest = largest.into_iter().max_by_key(|max| max.to_bits()).unwrap_or_default();
                let scale = arithmetic::scale_for(largest);
                self.writer.write_at(self.output + 1, 0, &scale.to_le_bytes())?;
                self.each_piece(|first_row, buffers| self.quantize_rows(first_row, buffers, Some(scale)))?
            }
        };
        let mut sums = ErrorSums::default();
        for piece in &pieces {
            sums.add(piece);
        }
        Ok(sums)
    }

    /// Reads the matrix in pieces and gives each to `work`, with the number of its first row. Results stand in the order
    /// of the pieces, whose extents depend on the matrix alone.
    fn each_piece<T: Send>(
        &self,
        work: impl Fn(usize, &mut Buffers) -> Result<T, QuantizeError> + Sync,
    ) -> Result<Vec<T>, QuantizeError> {
        let pieces = self.matrix.pieces().into_par_iter();
        let results = pieces.map_init(Buffers::default, |buffers, rows| {
            let first_row = rows.start;
            self.matrix.read(rows, &mut buffers.halves)?;
            work(first_row, buffers)
        });
        results.collect()
    }

    /// The largest magnitude of some rows; an error if one is not finite.
    fn largest(&self, first_row: usize, halves: &[f16]) -> Result<f16, QuantizeError> {
        let largest = arithmetic::max_abs(halves);
        if largest.is_finite() {
            return Ok(largest);
        }
        let [_, columns] = self.matrix.shape();
        let at = halves.iter().position(|weight| !weight.is_finite()).unwrap_or_default();
        Err(self.matrix.bad_value(first_row + at / columns.max(1), at % columns.max(1)).into())
    }

    /// Writes the values of some rows by `scale`, or by a scale for each row, which is then written too.
    fn quantize_rows(
        &self,
        first_row: usize,
        buffers: &mut Buffers,
        scale: Option<f16>,
    ) -> Result<ErrorSums, QuantizeError> {
        let [_, columns] = self.matrix.shape();
        let Buffers { halves, floats, values, scales } = buffers;
        floats.resize(columns, 0.0);
        values.resize(halves.len(), 0);
        scales.clear();
        let mut sums = ErrorSums::default();
        let rows = halves.chunks(columns.max(1)).zip(values.chunks_mut(columns.max(1)));
        for (index, (row, values)) in rows.enumerate() {
            let scale = match scale {
                Some(scale) => scale,
                None => arithmetic::scale_for(self.largest(first_row + index, row)?),
            };
            arithmetic::widen(row, floats);
            sums.add(&arithmetic::quantize(floats, scale.to_f32(), values));
            scales.push(scale);
        }
        self.writer.write_at(self.output, (first_row * columns) as u64, bytemuck::cast_slice(values))?;
        if scale.is_none() {
            let offset = (first_row * size_of::<f16>()) as u64;
            self.writer.write_at(self.output + 1, offset, bytemuck::cast_slice(scales))?;
        }
        Ok(sums)
    }
}
