//! Weights of a model file → weights as the program stores them, and what that costs.
//!
//! | weights in | `f16` | `int8` | `int8-per-tensor` |
//! |---|---|---|---|
//! | matrix `x` `[o, i]` | `x.weight` F16 `[o, i]` | `x.int8` I8 `[o, i]`, `x.scale` F16 `[o]` | `x.int8` I8 `[o, i]`, `x.scale` F16 `[1]` |
//! | vector `x` `[d]` | `x` F16 `[d]` | the same | the same |
//!
//! A matrix is rounded to fp16 first, whatever it becomes: what is quantized, and what the report compares with, is fp16.
//! The arithmetic of int8 is in `arithmetic.rs`. Rows come straight from the model file, in pieces, once (twice for a scale per
//! tensor), on all threads; memory does not grow with a matrix, and nothing is written but what the stage gives. Neither the file
//! nor the report depends on the number of threads.

mod arithmetic;
mod matrix;
mod report;

use std::path::Path;
use std::str::FromStr;

use half::f16;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::extract::{Entry, ExtractError, Form, Weights};
use crate::tensors::{TensorSpec, TensorWriter, TensorsError};
use arithmetic::ErrorSums;
use matrix::Stored;
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
    /// Weights could not be taken from the model file.
    #[error(transparent)]
    Weights(#[from] ExtractError),
    /// The file could not be written.
    #[error(transparent)]
    Tensors(#[from] TensorsError),
}

/// Quantizes `weights` into the safetensors file `output`.
pub fn quantize(
    weights: &Weights<'_>,
    output: &Path,
    quantization: Quantization,
) -> Result<Report, QuantizeError> {
    let mut specs = Vec::new();
    let mut firsts = Vec::new();
    for Entry { name, form } in weights.entries() {
        firsts.push(specs.len());
        match form {
            Form::Vector(vector) => specs.push(TensorSpec::new(name, Dtype::F16, [vector.len()])),
            Form::Matrix(matrix) => specs.extend(stored(name, matrix.shape(), quantization)),
        }
    }
    let writer = TensorWriter::create(output, specs)?;
    let mut report = Report::new(quantization);
    for (Entry { name, form }, output) in weights.entries().iter().zip(firsts) {
        let (shape, sums) = match form {
            Form::Vector(vector) => (vec![vector.len()], narrow(&vector.read()?, &writer, output)?),
            Form::Matrix(matrix) => {
                (matrix.shape().to_vec(), Stored { matrix, writer: &writer, output }.quantize(quantization)?)
            }
        };
        report.push(name, &shape, &sums);
    }
    writer.finish()?;
    Ok(report)
}

/// What the matrix `name` is stored as.
fn stored(name: &str, [rows, columns]: [usize; 2], quantization: Quantization) -> Vec<TensorSpec> {
    let int8 = |scales: usize| {
        vec![
            TensorSpec::new(format!("{name}.int8"), Dtype::I8, [rows, columns]),
            TensorSpec::new(format!("{name}.scale"), Dtype::F16, [scales]),
        ]
    };
    match quantization {
        Quantization::F16 => vec![TensorSpec::new(format!("{name}.weight"), Dtype::F16, [rows, columns])],
        Quantization::Int8 => int8(rows),
        Quantization::Int8PerTensor => int8(1),
    }
}

/// A vector, which has thousands of values and not millions, as F16.
fn narrow(values: &[f32], writer: &TensorWriter, output: usize) -> Result<ErrorSums, QuantizeError> {
    let mut sums = ErrorSums::default();
    let mut narrowed = Vec::with_capacity(values.len());
    for &value in values {
        let half = f16::from_f32(value);
        sums.add(&ErrorSums::of(value, value - half.to_f32()));
        narrowed.push(half);
    }
    writer.write_at(output, 0, bytemuck::cast_slice(&narrowed))?;
    Ok(sums)
}

#[cfg(test)]
mod tests;
