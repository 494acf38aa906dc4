//! Weights of a model file in the form that stages take them, and their way into a safetensors file.

use std::path::Path;

use anepipe_gguf::{Gguf, Tensor, first_non_finite_f16};
use half::f16;
use rayon::prelude::*;
use safetensors::Dtype;

use super::ExtractError;
use super::matrix::{Matrix, bad_value};
use super::source::{Rotary, Source};
use crate::contract::Contract;
use crate::tensors::{TensorSpec, TensorWriter};

/// Vectors and matrices by name, each known to be in the model file, none of them read.
///
/// Who takes them takes rows: nothing here holds a tensor.
pub struct Weights<'a> {
    gguf: &'a Gguf,
    rotary: Rotary,
    entries: Vec<Entry<'a>>,
}

/// One of the weights.
pub(crate) struct Entry<'a> {
    pub(crate) name: String,
    pub(crate) form: Form<'a>,
}

/// What it is.
pub(crate) enum Form<'a> {
    Vector(Vector<'a>),
    Matrix(Matrix<'a>),
}

/// A tensor of one row.
pub(crate) struct Vector<'a>(Tensor<'a>);

impl<'a> Weights<'a> {
    pub(super) fn new(gguf: &'a Gguf, contract: &Contract) -> Self {
        let rotary =
            Rotary { head_dim: contract.head_dim.value.into(), width: contract.rope_dim.value.into() };
        Self { gguf, rotary, entries: Vec::new() }
    }

    /// Adds a tensor of one row.
    pub(super) fn vector(&mut self, name: &str, tensor: &str) -> Result<(), ExtractError> {
        let form = Form::Vector(Vector(self.tensor(tensor, 1, None)?));
        self.entries.push(Entry { name: name.to_owned(), form });
        Ok(())
    }

    /// Adds a matrix of `columns` columns; its rows are those of `sources`, in order.
    pub(super) fn matrix(
        &mut self,
        name: &str,
        columns: u64,
        sources: Vec<Source>,
    ) -> Result<(), ExtractError> {
        let mut matrix = Matrix::new(columns, self.rotary);
        for source in sources {
            let tensor = self.tensor(&source.tensor, source.rows.end, Some(columns))?;
            matrix.push(tensor, source.rows, source.permuted);
        }
        self.entries.push(Entry { name: name.to_owned(), form: Form::Matrix(matrix) });
        Ok(())
    }

    /// Every tensor of a file under its own name: those of one dimension as vectors, the others as matrices.
    #[cfg(test)]
    pub(crate) fn all_of(gguf: &'a Gguf) -> Self {
        let mut weights = Self { gguf, rotary: Rotary { head_dim: 1, width: 0 }, entries: Vec::new() };
        for tensor in gguf.tensors() {
            let added = if tensor.dims().len() == 1 {
                weights.vector(tensor.name(), tensor.name())
            } else {
                let sources = vec![Source::new(tensor.name(), 0..tensor.rows())];
                weights.matrix(tensor.name(), tensor.row_len(), sources)
            };
            added.expect("a tensor of the file");
        }
        weights
    }

    /// Every row of a file as one matrix.
    #[cfg(test)]
    pub(crate) fn joined(name: &str, gguf: &'a Gguf) -> Self {
        let mut weights = Self { gguf, rotary: Rotary { head_dim: 1, width: 0 }, entries: Vec::new() };
        let columns = gguf.tensors().next().expect("a tensor").row_len();
        let sources = gguf.tensors().map(|tensor| Source::new(tensor.name(), 0..tensor.rows())).collect();
        weights.matrix(name, columns, sources).expect("tensors of the file");
        weights
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

    /// The weights, in the order in which they are stored.
    pub(crate) fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }

    /// Writes them to a safetensors file: vectors as F32 `[d]`, matrices as F16 `[rows, columns]`.
    pub fn write(&self, output: &Path) -> Result<(), ExtractError> {
        let spec = |entry: &Entry<'_>| match &entry.form {
            Form::Vector(vector) => TensorSpec::new(&entry.name, Dtype::F32, [vector.len()]),
            Form::Matrix(matrix) => TensorSpec::new(&entry.name, Dtype::F16, matrix.shape()),
        };
        let writer = TensorWriter::create(output, self.entries.iter().map(spec).collect())?;
        for (index, entry) in self.entries.iter().enumerate() {
            match &entry.form {
                Form::Vector(vector) => writer.write_at(index, 0, bytemuck::cast_slice(&vector.read()?))?,
                Form::Matrix(matrix) => write_matrix(matrix, &writer, index)?,
            }
        }
        Ok(writer.finish()?)
    }
}

fn write_matrix(matrix: &Matrix<'_>, writer: &TensorWriter, index: usize) -> Result<(), ExtractError> {
    let [_, columns] = matrix.shape();
    matrix.pieces().into_par_iter().try_for_each_init(Vec::new, |weights, rows| {
        let first = rows.start;
        matrix.read(rows, weights)?;
        if let Some(at) = first_non_finite_f16(weights) {
            return Err(matrix.bad_value(first + at / columns, at % columns));
        }
        Ok(writer.write_at(
            index,
            (first * columns * size_of::<f16>()) as u64,
            bytemuck::cast_slice(weights),
        )?)
    })
}

impl Vector<'_> {
    /// How many values.
    pub(crate) fn len(&self) -> usize {
        self.0.row_len() as usize
    }

    /// The values, which are finite in fp16 too.
    pub(crate) fn read(&self) -> Result<Vec<f32>, ExtractError> {
        let mut values = vec![0.0; self.len()];
        self.0.dequantize_rows_f32(0..1, &mut values)?;
        match values.iter().position(|value| !f16::from_f32(*value).is_finite()) {
            Some(column) => Err(bad_value(&self.0, 0, column)),
            None => Ok(values),
        }
    }
}
