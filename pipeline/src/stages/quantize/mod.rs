//! Extracted weights → weights as the program stores them, and what that costs.
//!
//! | tensor in | `f16` | `int8` | `int8-per-tensor` |
//! |---|---|---|---|
//! | matrix `x`, F16 `[o, i]` | `x.weight` F16 `[o, i]` | `x.int8` I8 `[o, i]`, `x.scale` F16 `[o]` | `x.int8` I8 `[o, i]`, `x.scale` F16 `[1]` |
//! | vector `x`, F32 `[d]` | `x` F16 `[d]` | the same | the same |
//!
//! The arithmetic of int8 is in `arithmetic.rs`. A matrix is read in pieces of rows, once (twice for a scale per tensor),
//! on all threads; memory does not grow with it. Neither the file nor the report depends on the number of threads.

mod arithmetic;
mod matrix;
mod report;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use half::f16;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::tensors::{TensorFile, TensorRef, TensorSpec, TensorWriter, TensorsError};
use arithmetic::ErrorSums;
use matrix::Matrix;
pub use report::{Report, TensorError};

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantization {
    /// As fp16.
    F16,
    /// As int8 with one fp16 scale per output channel.
    Int8,
    /// As int8 with one fp16 scale.
    Int8PerTensor,
}

impl Quantization {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Int8, Self::Int8PerTensor, Self::F16];

    /// The name in keys, files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Int8PerTensor => "int8-per-tensor",
        }
    }

    /// Bytes that a weight takes, scales apart.
    pub fn bytes_per_weight(self) -> u64 {
        match self {
            Self::F16 => 2,
            Self::Int8 | Self::Int8PerTensor => 1,
        }
    }
}

impl std::fmt::Display for Quantization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Quantization {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|q| q.name() == name)
            .ok_or_else(|| format!("`{name}` is no quantization; there are int8, int8-per-tensor and f16"))
    }
}

/// Why weights could not be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// A file could not be read or written.
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    /// A tensor is neither a matrix of F16 nor a vector of F32.
    #[error("quantizing {}: `{tensor}` is {dtype} {shape:?}; expected a matrix of F16 or a vector of F32", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A weight is not finite, or too large for fp16.
    #[error(
        "quantizing {}: `{tensor}` has the value {value} in row {row}, column {column}; \
         fp16 ends at 65504, so check the model file",
        path.display()
    )]
    Value {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Row, from 0; for a vector 0.
        row: usize,
        /// Column, from 0.
        column: usize,
        /// The value found.
        value: f32,
    },
}

/// Quantizes every tensor of the safetensors file `input` into the file `output`.
pub fn quantize(input: &Path, output: &Path, quantization: Quantization) -> Result<Report, QuantizeError> {
    let file = TensorFile::open(input)?;
    let mut tensors = Vec::new();
    let mut specs = Vec::new();
    for name in file.names() {
        let tensor = file.tensor(&name)?;
        let first = specs.len();
        match (tensor.dtype(), tensor.shape()) {
            (Dtype::F32, &[d]) => {
                specs.push(TensorSpec::new(&name, Dtype::F16, [d]));
                tensors.push((first, Form::Vector, name));
            }
            (Dtype::F16, &[rows, columns]) => {
                match quantization {
                    Quantization::F16 => {
                        specs.push(TensorSpec::new(format!("{name}.weight"), Dtype::F16, [rows, columns]));
                    }
                    Quantization::Int8 | Quantization::Int8PerTensor => {
                        let scales = if quantization == Quantization::Int8 { rows } else { 1 };
                        specs.push(TensorSpec::new(format!("{name}.int8"), Dtype::I8, [rows, columns]));
                        specs.push(TensorSpec::new(format!("{name}.scale"), Dtype::F16, [scales]));
                    }
                }
                tensors.push((first, Form::Matrix { rows, columns }, name));
            }
            (dtype, shape) => {
                let shape = shape.to_vec();
                return Err(QuantizeError::Form { path: input.to_owned(), tensor: name, dtype, shape });
            }
        }
    }

    let writer = TensorWriter::create(output, specs)?;
    let mut report = Report::new(quantization);
    for (first, form, name) in tensors {
        let tensor = file.tensor(&name)?;
        let sums = match form {
            Form::Vector => narrow(&file, &tensor, &writer, first)?,
            Form::Matrix { rows, columns } => {
                Matrix { file: &file, tensor: &tensor, rows, columns, writer: &writer, output: first }
                    .quantize(quantization)?
            }
        };
        report.push(&name, tensor.shape(), &sums);
    }
    writer.finish()?;
    Ok(report)
}

enum Form {
    Vector,
    Matrix { rows: usize, columns: usize },
}

/// A vector of F32, which has thousands of values and not millions, as F16.
fn narrow(
    file: &TensorFile,
    tensor: &TensorRef<'_>,
    writer: &TensorWriter,
    output: usize,
) -> Result<ErrorSums, QuantizeError> {
    let mut values = vec![0_f32; tensor.shape().iter().product()];
    tensor.read_at(0, bytemuck::cast_slice_mut(&mut values))?;
    let mut sums = ErrorSums::default();
    let mut narrowed = Vec::with_capacity(values.len());
    for (column, value) in values.into_iter().enumerate() {
        let half = f16::from_f32(value);
        if !half.is_finite() {
            let (path, tensor) = (file.path().to_owned(), tensor.name().to_owned());
            return Err(QuantizeError::Value { path, tensor, row: 0, column, value });
        }
        sums.add(&ErrorSums::of(value, value - half.to_f32()));
        narrowed.push(half);
    }
    writer.write_at(output, 0, bytemuck::cast_slice(&narrowed))?;
    Ok(sums)
}

#[cfg(test)]
mod tests;
