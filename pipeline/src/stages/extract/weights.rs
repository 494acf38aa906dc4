//! Weights on their way from a model file to a safetensors file.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anepipe_gguf::{Gguf, Tensor, first_non_finite_f16};
use half::f16;
use rayon::prelude::*;
use safetensors::Dtype;

use super::ExtractError;
use crate::contract::{Contract, Part};
use crate::tensors::{TensorSpec, TensorWriter};

/// Weights worked on at a time by one thread: 256 KiB of fp16, which stays in its cache.
const PIECE: u64 = 128 * 1024;

/// Bytes of the model file that may be read before they are given back to the system. A mapped file counts as the
/// process's memory as far as it was read, and an embedding alone can be a gigabyte.
const MAPPED: u64 = 32 << 20;

/// Rows of one tensor of the model file.
pub(super) struct Source {
    tensor: String,
    rows: Range<u64>,
    permuted: bool,
}

impl Source {
    /// Rows as they stand in the file.
    pub(super) fn new(tensor: &str, rows: Range<u64>) -> Self {
        Self { tensor: tensor.to_owned(), rows, permuted: false }
    }
}

impl From<Part> for Source {
    fn from(part: Part) -> Self {
        Self { tensor: part.tensor, rows: 0..part.rows, permuted: part.permuted }
    }
}

/// What goes into one safetensors file.
pub(super) struct Plan<'a> {
    gguf: &'a Gguf,
    rotary: Rotary,
    specs: Vec<TensorSpec>,
    vectors: Vec<(usize, Tensor<'a>)>,
    pieces: Vec<Piece<'a>>,
}

/// Consecutive rows of an output matrix that come from one tensor.
struct Piece<'a> {
    /// Position among the outputs.
    output: usize,
    /// First row in the output.
    first_row: u64,
    tensor: Tensor<'a>,
    /// Rows of the tensor; where they are permuted, of the permuted tensor.
    rows: Range<u64>,
    permuted: bool,
    /// Whether these are the first rows taken from the tensor.
    starts_source: bool,
}

impl<'a> Plan<'a> {
    pub(super) fn new(gguf: &'a Gguf, contract: &Contract) -> Self {
        let rotary =
            Rotary { head_dim: contract.head_dim.value.into(), width: contract.rope_dim.value.into() };
        Self { gguf, rotary, specs: Vec::new(), vectors: Vec::new(), pieces: Vec::new() }
    }

    /// Adds a tensor of one row as an F32 vector.
    pub(super) fn vector(&mut self, name: &str, tensor: &str) -> Result<(), ExtractError> {
        let tensor = self.tensor(tensor, 1, None)?;
        self.vectors.push((self.specs.len(), tensor));
        self.specs.push(TensorSpec::new(name, Dtype::F32, [tensor.row_len() as usize]));
        Ok(())
    }

    /// Adds an F16 matrix of `columns` columns; its rows are those of `sources`, in order.
    pub(super) fn matrix(
        &mut self,
        name: &str,
        columns: u64,
        sources: Vec<Source>,
    ) -> Result<(), ExtractError> {
        let output = self.specs.len();
        let piece = (PIECE / columns.max(1)).max(1);
        let mut first_row = 0;
        for Source { tensor, rows, permuted } in sources {
            let tensor = self.tensor(&tensor, rows.end, Some(columns))?;
            let mut start = rows.start;
            while start < rows.end {
                let end = rows.end.min(start + piece);
                self.pieces.push(Piece {
                    output,
                    first_row,
                    tensor,
                    rows: start..end,
                    permuted,
                    starts_source: start == rows.start,
                });
                first_row += end - start;
                start = end;
            }
        }
        self.specs.push(TensorSpec::new(name, Dtype::F16, [first_row as usize, columns as usize]));
        Ok(())
    }

    /// A tensor of the model file, of at least `rows` rows.
    fn tensor(&self, name: &str, rows: u64, columns: Option<u64>) -> Result<Tensor<'a>, ExtractError> {
        self.gguf
            .tensor(name)
            .filter(|tensor| tensor.rows() >= rows && columns.is_none_or(|n| tensor.row_len() == n))
            .ok_or_else(|| ExtractError::Changed {
                file: self.gguf.files().first().cloned().unwrap_or_default(),
                tensor: name.to_owned(),
                rows,
                columns: columns.unwrap_or(1),
            })
    }

    /// Gives back what was read of the model file.
    fn release(&self) {
        let sources = self.pieces.iter().filter(|piece| piece.starts_source);
        sources.for_each(|piece| piece.tensor.release());
    }

    /// Writes the file.
    pub(super) fn write(mut self, output: &Path) -> Result<(), ExtractError> {
        let writer = TensorWriter::create(output, std::mem::take(&mut self.specs))?;
        for (index, tensor) in &self.vectors {
            let mut values = vec![0.0; tensor.row_len() as usize];
            tensor.dequantize_rows_f32(0..1, &mut values)?;
            if let Some(column) = values.iter().position(|v| !f16::from_f32(*v).is_finite()) {
                return Err(bad_value(tensor, 0, column));
            }
            writer.write_at(*index, 0, bytemuck::cast_slice(&values))?;
        }
        let read = AtomicU64::new(0);
        self.pieces.par_iter().try_for_each_init(Vec::new, |weights, piece| {
            piece.read(&self.rotary, weights)?;
            let offset = piece.first_row * piece.tensor.row_len() * size_of::<f16>() as u64;
            writer.write_at(piece.output, offset, bytemuck::cast_slice(weights))?;
            let bytes = piece.file_bytes();
            let before = read.fetch_add(bytes, Ordering::Relaxed);
            if before / MAPPED != (before + bytes) / MAPPED {
                self.release();
            }
            Ok::<(), ExtractError>(())
        })?;
        self.release();
        Ok(writer.finish()?)
    }
}

impl Piece<'_> {
    /// Bytes of the model file that the rows take.
    fn file_bytes(&self) -> u64 {
        let row = self.tensor.bytes().len() as u64 / self.tensor.rows().max(1);
        row * (self.rows.end - self.rows.start)
    }

    /// Fills `weights` with the rows.
    fn read(&self, rotary: &Rotary, weights: &mut Vec<f16>) -> Result<(), ExtractError> {
        let columns = self.tensor.row_len() as usize;
        weights.resize((self.rows.end - self.rows.start) as usize * columns, f16::ZERO);
        if self.permuted {
            for (row, weights) in self.rows.clone().zip(weights.chunks_exact_mut(columns)) {
                let source = rotary.norm_row(row);
                self.tensor.dequantize_rows_f16(source..source + 1, weights)?;
            }
        } else {
            self.tensor.dequantize_rows_f16(self.rows.clone(), weights)?;
        }
        match first_non_finite_f16(weights) {
            None => Ok(()),
            Some(index) => {
                let row = self.rows.start + (index / columns) as u64;
                let row = if self.permuted { rotary.norm_row(row) } else { row };
                Err(bad_value(&self.tensor, row, index % columns))
            }
        }
    }
}

/// The error for a weight that is not finite, or not in fp16.
fn bad_value(tensor: &Tensor<'_>, row: u64, column: usize) -> ExtractError {
    // Again as f32, to tell what is infinite from what is too large.
    let mut weights = vec![f32::NAN; tensor.row_len() as usize];
    if let Err(error) = tensor.dequantize_rows_f32(row..row + 1, &mut weights) {
        return error.into();
    }
    ExtractError::Value {
        file: tensor.file().to_owned(),
        tensor: tensor.name().to_owned(),
        row,
        column: column as u64,
        value: weights.get(column).copied().unwrap_or(f32::NAN),
    }
}

/// The two orders of a head's rotated rows.
struct Rotary {
    head_dim: u64,
    width: u64,
}

impl Rotary {
    /// Where in a tensor in NORM order (pairs `2i`, `2i + 1`) the row is that stands at `row` in NEOX order (pairs `i`,
    /// `i + n/2`). Rows that are not rotated stay.
    fn norm_row(&self, row: u64) -> u64 {
        let within = row % self.head_dim;
        if within >= self.width {
            return row;
        }
        let half = self.width / 2;
        row - within + 2 * (within % half) + within / half
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_of_neighbours_become_pairs_of_halves() {
        let rotary = Rotary { head_dim: 8, width: 6 };
        let rows: Vec<u64> = (0..16).map(|row| rotary.norm_row(row)).collect();
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 7, 8, 10, 12, 9, 11, 13, 14, 15]);
    }

    proptest! {
        /// The rule as the rotation needs it: what stood at 2i and 2i + 1 stands at i and i + n/2.
        #[test]
        fn every_pair_stays_a_pair(head in 0_u64..4, half in 1_u64..9, rest in 0_u64..5) {
            let rotary = Rotary { head_dim: 2 * half + rest, width: 2 * half };
            let first = head * rotary.head_dim;
            for i in 0..half {
                prop_assert_eq!(rotary.norm_row(first + i), first + 2 * i);
                prop_assert_eq!(rotary.norm_row(first + half + i), first + 2 * i + 1);
            }
            for row in 2 * half..rotary.head_dim {
                prop_assert_eq!(rotary.norm_row(first + row), first + row);
            }
        }
    }
}
