//! A matrix whose rows are rows of tensors of the model file.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use anepipe_gguf::Tensor;
use half::f16;

use super::ExtractError;
use super::source::Rotary;

/// Weights that one thread works on at a time: 256 KiB of fp16, which stays in its cache.
const PIECE: usize = 128 * 1024;

/// Bytes of the model file that may be read before they are given back to the system. A mapped file counts as the
/// process's memory as far as it was read, and an embedding alone can be a gigabyte.
const MAPPED: u64 = 32 << 20;

/// Rows of one or more tensors, one behind the other.
pub(crate) struct Matrix<'a> {
    columns: u64,
    rotary: Rotary,
    runs: Vec<Run<'a>>,
    /// Bytes of the model file read so far.
    read: AtomicU64,
}

/// Consecutive rows of the matrix that come from one tensor.
struct Run<'a> {
    /// Where they stand in the matrix.
    at: Range<u64>,
    tensor: Tensor<'a>,
    /// The tensor's row that is the first of them; where rows are permuted, the permuted tensor's.
    first: u64,
    permuted: bool,
}

impl<'a> Matrix<'a> {
    pub(super) fn new(columns: u64, rotary: Rotary) -> Self {
        Self { columns, rotary, runs: Vec::new(), read: AtomicU64::new(0) }
    }

    /// Appends the rows `rows` of `tensor`.
    pub(super) fn push(&mut self, tensor: Tensor<'a>, rows: Range<u64>, permuted: bool) {
        let start = self.rows();
        let at = start..start + rows.end.saturating_sub(rows.start);
        self.runs.push(Run { at, tensor, first: rows.start, permuted });
    }

    fn rows(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.at.end)
    }

    /// Rows and columns.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.rows() as usize, self.columns as usize]
    }

    /// The matrix in runs of rows, each to be worked on by one thread. Their extents depend on nothing but the shape.
    pub(crate) fn pieces(&self) -> Vec<Range<usize>> {
        let [rows, columns] = self.shape();
        let piece = (PIECE / columns.max(1)).max(1);
        (0..rows).step_by(piece).map(|start| start..rows.min(start + piece)).collect()
    }

    /// Fills `weights` with the rows `rows`, as fp16: what is not finite there is for the caller to find.
    pub(crate) fn read(&self, rows: Range<usize>, weights: &mut Vec<f16>) -> Result<(), ExtractError> {
        let columns = self.columns as usize;
        weights.resize((rows.end - rows.start) * columns, f16::ZERO);
        let (start, end) = (rows.start as u64, rows.end as u64);
        for run in &self.runs {
            let part = run.at.start.max(start)..run.at.end.min(end);
            if part.start >= part.end {
                continue;
            }
            let (from, to) = ((part.start - start) as usize * columns, (part.end - start) as usize * columns);
            run.read(&part, &self.rotary, weights.get_mut(from..to).unwrap_or_default())?;
            self.account(run, part.end - part.start);
        }
        Ok(())
    }

    /// Gives what was read back to the system now and then.
    fn account(&self, run: &Run<'_>, rows: u64) {
        let bytes = run.tensor.bytes().len() as u64 / run.tensor.rows().max(1) * rows;
        let before = self.read.fetch_add(bytes, Ordering::Relaxed);
        if before / MAPPED != (before + bytes) / MAPPED {
            self.release();
        }
    }

    fn release(&self) {
        self.runs.iter().for_each(|run| run.tensor.release());
    }

    /// The error for the weight in `row` and `column`, which is not finite in fp16.
    pub(crate) fn bad_value(&self, row: usize, column: usize) -> ExtractError {
        let row = row as u64;
        match self.runs.iter().find(|run| run.at.contains(&row)) {
            Some(run) => bad_value(&run.tensor, run.row(row, &self.rotary), column),
            None => ExtractError::out_of_range("row", row, self.rows()),
        }
    }
}

impl Drop for Matrix<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

impl Run<'_> {
    /// The tensor's row that is the matrix's row `row`.
    fn row(&self, row: u64, rotary: &Rotary) -> u64 {
        let row = self.first + (row - self.at.start);
        if self.permuted { rotary.norm_row(row) } else { row }
    }

    /// Fills `weights` with the matrix's rows `rows`, all of them this run's.
    fn read(&self, rows: &Range<u64>, rotary: &Rotary, weights: &mut [f16]) -> Result<(), ExtractError> {
        if self.permuted {
            let columns = self.tensor.row_len() as usize;
            for (row, weights) in rows.clone().zip(weights.chunks_exact_mut(columns)) {
                let source = self.row(row, rotary);
                self.tensor.dequantize_rows_f16(source..source + 1, weights)?;
            }
        } else {
            let first = self.row(rows.start, rotary);
            self.tensor.dequantize_rows_f16(first..first + (rows.end - rows.start), weights)?;
        }
        Ok(())
    }
}

/// The error for a weight that is not finite, or not in fp16.
pub(super) fn bad_value(tensor: &Tensor<'_>, row: u64, column: usize) -> ExtractError {
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
