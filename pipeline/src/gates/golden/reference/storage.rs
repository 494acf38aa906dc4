//! Weights rounded as shards store them, from the definition.
//!
//! Against the weights of the file, a shard's logits show what rounding costs and what was forgotten, added up; with one scale per
//! tensor the first hides the second. Against the same rounded weights only fp16 activations are left, which cost a few hundred
//! times less than the smallest mistake. So the reference can take the shards' weights, which it makes itself.

use std::ops::Range;

use anepipe_gguf::{GgufError, Tensor};
use half::{f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;

use crate::stages::quantize::Quantization;

/// Rows that one task looks at.
const TASK: u64 = 64;
/// Weights that are rounded to fp16 at a time.
const CHUNK: usize = 512;
/// 1.5 · 2²³.
const ROUNDER: f32 = 12_582_912.0;

/// How shards store their weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// How matrices are stored; norms and the embedding are fp16.
    pub quantization: Quantization,
    /// Rows of the head that are one tensor each, as in the head's shards; empty if it is one tensor. Looked at where a tensor has
    /// one scale.
    pub head_slices: Vec<Range<u32>>,
}

impl Stored {
    /// Weights stored as `quantization` says, the head in one piece.
    pub fn new(quantization: Quantization) -> Self {
        Self { quantization, head_slices: Vec::new() }
    }

    /// The rounding of tensors that are stored as one.
    pub(super) fn together(&self, tensors: &[Tensor<'_>]) -> Result<Rounding, GgufError> {
        Ok(match self.quantization {
            Quantization::F16 => Rounding::Half,
            Quantization::Int8 => Rounding::PerRow,
            Quantization::Int8PerTensor => {
                let largest = tensors.iter().map(|tensor| max_abs(tensor, 0..tensor.rows()));
                let largest = largest.collect::<Result<Vec<f32>, _>>()?.into_iter().fold(0.0, f32::max);
                Rounding::PerTensor(vec![(u64::MAX, scale(largest))])
            }
        })
    }

    /// The rounding of the head.
    pub(super) fn head(&self, tensor: &Tensor<'_>) -> Result<Rounding, GgufError> {
        if self.quantization != Quantization::Int8PerTensor || self.head_slices.is_empty() {
            return self.together(&[*tensor]);
        }
        let slices = self.head_slices.iter().map(|slice| {
            let end = u64::from(slice.end);
            Ok((end, scale(max_abs(tensor, u64::from(slice.start).min(end)..end)?)))
        });
        Ok(Rounding::PerTensor(slices.collect::<Result<_, GgufError>>()?))
    }
}

/// What becomes of a row of weights.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rounding {
    /// Nothing: the weights of the file.
    None,
    /// fp16.
    Half,
    /// int8 with an fp16 scale per row.
    PerRow,
    /// int8 with fp16 scales, each for the rows below its number.
    PerTensor(Vec<(u64, f32)>),
}

impl Rounding {
    /// Rounds row number `index`.
    pub(super) fn apply(&self, index: u64, row: &mut [f32]) {
        if *self == Self::None {
            return;
        }
        halve(row);
        let scale = match self {
            Self::None | Self::Half => return,
            Self::PerRow => scale(row.iter().fold(0.0, |max: f32, weight| max.max(weight.abs()))),
            Self::PerTensor(scales) => match scales.iter().find(|(end, _)| index < *end) {
                Some((_, scale)) => *scale,
                None => return,
            },
        };
        for weight in &mut *row {
            *weight /= scale;
        }
        halve(row);
        for weight in row {
            // To the nearest integer, ties to even: sums of that size have no fractional bits.
            *weight = (weight.clamp(-127.0, 127.0) + ROUNDER - ROUNDER) * scale;
        }
    }
}

/// The scale of weights up to `largest`: a 127th in fp16, one step up where that would cut the largest off, 1 for zeros.
fn scale(largest: f32) -> f32 {
    let nearest = f16::from_f32(largest / 127.0);
    if largest == 0.0 {
        1.0
    } else if largest > nearest.to_f32() * 127.5 {
        f16::from_bits(nearest.to_bits() + 1).to_f32()
    } else {
        nearest.to_f32()
    }
}

/// The largest magnitude in some rows, in fp16.
fn max_abs(tensor: &Tensor<'_>, rows: Range<u64>) -> Result<f32, GgufError> {
    let len = tensor.row_len() as usize;
    let tasks = rows.end.saturating_sub(rows.start).div_ceil(TASK);
    let largest = (0..tasks).into_par_iter().map_init(Vec::new, |weights: &mut Vec<f32>, task| {
        let first = rows.start + task * TASK;
        let some = first..(first + TASK).min(rows.end);
        weights.resize((some.end - some.start) as usize * len, 0.0);
        tensor.dequantize_rows_f32(some, weights)?;
        Ok(weights.iter().fold(0.0, |max: f32, weight| max.max(weight.abs())))
    });
    largest.try_reduce(|| 0.0, |a, b| Ok(a.max(b))).map(half)
}

/// Rounds a row to fp16, many weights at a time.
fn halve(row: &mut [f32]) {
    let mut narrow = [f16::ZERO; CHUNK];
    for row in row.chunks_mut(CHUNK) {
        let narrow = &mut narrow[..row.len()];
        narrow.convert_from_f32_slice(row);
        narrow.convert_to_f32_slice(row);
    }
}

/// Rounded to fp16.
pub(super) fn half(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)] // exactness is what is tested

    use super::*;

    #[test]
    fn rows_are_rounded_as_their_definition_says() {
        let row = [127.0, -0.4, 0.5, 1.5, -126.5, 0.1];
        let rounded = |rounding: &Rounding, index| {
            let mut row = row;
            rounding.apply(index, &mut row);
            row
        };
        assert_eq!(rounded(&Rounding::None, 0), row);
        assert_eq!(rounded(&Rounding::Half, 0), row.map(half));
        assert_eq!(rounded(&Rounding::PerRow, 0), [127.0, 0.0, 0.0, 2.0, -126.0, 0.0]);
        let two = Rounding::PerTensor(vec![(3, 1.0), (6, 2.0)]);
        assert_eq!(rounded(&two, 2), [127.0, 0.0, 0.0, 2.0, -126.0, 0.0]);
        assert_eq!(rounded(&two, 3), [128.0, 0.0, 0.0, 2.0, -126.0, 0.0]);
        assert_eq!(rounded(&two, 6), row.map(half), "no slice has it");
    }

    #[test]
    fn scales_of_zeros_and_of_tiny_weights_are_not_zero() {
        let step = f16::from_bits(1).to_f32();
        for (largest, expected) in [(0.0, 1.0), (127.0, 1.0), (step, step), (128.0 * step, 2.0 * step)] {
            assert_eq!(scale(largest), expected, "{largest}");
        }
        let mut zeros = [0.0; 3];
        Rounding::PerRow.apply(0, &mut zeros);
        assert_eq!(zeros, [0.0; 3]);
    }
}
