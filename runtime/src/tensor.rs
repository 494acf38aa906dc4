//! Dense fp16 tensors as they cross a device's border.

use half::f16;

/// A dense fp16 tensor, last axis fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f16>,
}

impl Tensor {
    /// A tensor of positive zeros.
    pub fn zeros(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), data: vec![f16::ZERO; shape.iter().product()] }
    }

    /// Extents, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements, last axis fastest.
    pub fn data(&self) -> &[f16] {
        &self.data
    }

    /// Elements, last axis fastest.
    pub fn data_mut(&mut self) -> &mut [f16] {
        &mut self.data
    }

    /// Exchanges the elements for `elements`, if there are `length` of both. Says whether it did.
    pub(crate) fn exchange(&mut self, elements: &mut Vec<f16>, length: usize) -> bool {
        let fits = elements.len() == length && self.data.len() == length;
        if fits {
            std::mem::swap(&mut self.data, elements);
        }
        fits
    }
}
