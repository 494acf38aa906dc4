//! A matrix streamed through the quantizer.

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use rayon::prelude::*;

use super::arithmetic::{self, ErrorSums};
use super::{Quantization, QuantizeError};
use crate::tensors::{TensorFile, TensorRef, TensorWriter};

/// Values worked on at a time by one thread: 256 KiB of fp16, which stays in its cache.
const PIECE: usize = 128 * 1024;

/// A matrix of F16 in a file, and where it goes.
pub(super) struct Matrix<'a> {
    pub(super) file: &'a TensorFile,
    pub(super) tensor: &'a TensorRef<'a>,
    pub(super) rows: usize,
    pub(super) columns: usize,
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

impl Matrix<'_> {
    /// Writes the matrix as `quantization` stores it.
    pub(super) fn quantize(&self, quantization: Quantization) -> Result<ErrorSums, QuantizeError> {
        let pieces = match quantization {
            Quantization::F16 => self.each_piece(|first_row, buffers| {
                self.largest(first_row, &buffers.halves)?;
                let offset = (first_row * self.columns * size_of::<f16>()) as u64;
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
        let piece = (PIECE / self.columns.max(1)).max(1);
        (0..self.rows.div_ceil(piece))
            .into_par_iter()
            .map_init(Buffers::default, |buffers, index| {
                let first_row = index * piece;
                let rows = piece.min(self.rows - first_row);
                buffers.halves.resize(rows * self.columns, f16::ZERO);
                let offset = (first_row * self.columns * size_of::<f16>()) as u64;
                self.tensor.read_at(offset, bytemuck::cast_slice_mut(&mut buffers.halves))?;
                work(first_row, buffers)
            })
            .collect()
    }

    /// The largest magnitude of some rows; an error if one is not finite.
    fn largest(&self, first_row: usize, halves: &[f16]) -> Result<f16, QuantizeError> {
        let largest = arithmetic::max_abs(halves);
        if largest.is_finite() {
            return Ok(largest);
        }
        let at = halves.iter().position(|w| !w.is_finite()).unwrap_or_default();
        Err(QuantizeError::Value {
            path: self.file.path().to_owned(),
            tensor: self.tensor.name().to_owned(),
            row: first_row + at / self.columns.max(1),
            column: at % self.columns.max(1),
            value: halves.get(at).map_or(f32::NAN, |w| w.to_f32()),
        })
    }

    /// Writes the values of some rows by `scale`, or by a scale for each row, which is then written too.
    fn quantize_rows(
        &self,
        first_row: usize,
        buffers: &mut Buffers,
        scale: Option<f16>,
    ) -> Result<ErrorSums, QuantizeError> {
        let Buffers { halves, floats, values, scales } = buffers;
        floats.resize(self.columns, 0.0);
        values.resize(halves.len(), 0);
        scales.clear();
        let mut sums = ErrorSums::default();
        // A row without columns has no chunk, and its scale is that of a row of zeros.
        let columns = self.columns.max(1);
        for (index, (row, values)) in halves.chunks(columns).zip(values.chunks_mut(columns)).enumerate() {
            let scale = match scale {
                Some(scale) => scale,
                None => arithmetic::scale_for(self.largest(first_row + index, row)?),
            };
            row.convert_to_f32_slice(floats);
            sums.add(&arithmetic::quantize(floats, scale.to_f32(), values));
            scales.push(scale);
        }
        let offset = (first_row * self.columns) as u64;
        self.writer.write_at(self.output, offset, bytemuck::cast_slice(values))?;
        if scale.is_none() {
            let offset = (first_row * size_of::<f16>()) as u64;
            self.writer.write_at(self.output + 1, offset, bytemuck::cast_slice(scales))?;
        }
        Ok(sums)
    }
}
