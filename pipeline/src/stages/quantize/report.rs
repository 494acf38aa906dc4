//! What quantization costs.

use serde::{Deserialize, Serialize};

use super::Quantization;
use super::arithmetic::ErrorSums;

/// The error of every tensor of one file, written as JSON next to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form.
    pub schema: u32,
    /// How matrices are stored.
    pub quantization: Quantization,
    /// In the order of the file.
    pub tensors: Vec<TensorError>,
}

/// How far one tensor is, as stored, from what it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorError {
    /// Name in the extracted file.
    pub tensor: String,
    /// Extents, slowest first.
    pub shape: Vec<usize>,
    /// √(Σ error² / Σ value²).
    pub rms_relative: f64,
    /// The largest error.
    pub max_abs: f64,
    /// Cosine of the angle between the tensor and what is stored.
    pub cosine: f64,
}

impl Report {
    pub(super) fn new(quantization: Quantization) -> Self {
        Self { schema: 1, quantization, tensors: Vec::new() }
    }

    pub(super) fn push(&mut self, tensor: &str, shape: &[usize], sums: &ErrorSums) {
        self.tensors.push(TensorError {
            tensor: tensor.to_owned(),
            shape: shape.to_vec(),
            rms_relative: sums.rms_relative(),
            max_abs: f64::from(sums.max),
            cosine: sums.cosine(),
        });
    }

    /// The error of one tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorError> {
        self.tensors.iter().find(|t| t.tensor == name)
    }
}
