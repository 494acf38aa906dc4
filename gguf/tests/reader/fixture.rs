//! Where the fixtures are, and what tests do with them.

use std::path::PathBuf;

use anepipe_gguf::Gguf;

/// The path of a fixture.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A fixture, opened.
pub(crate) fn open(name: &str) -> Gguf {
    Gguf::open(&path(name)).unwrap()
}

/// Opens bytes that no file holds.
pub(crate) fn read(bytes: Vec<u8>) -> Result<Gguf, anepipe_gguf::GgufError> {
    Gguf::from_bytes("memory.gguf", bytes)
}

/// The bits of `weights` with every NaN the same: which NaN a computation gives is the processor's choice, and fixtures
/// are written likewise.
pub(crate) fn bits_f32(weights: &[f32]) -> Vec<u32> {
    weights.iter().map(|w| if w.is_nan() { 0x7fc0_0000 } else { w.to_bits() }).collect()
}

/// As [`bits_f32`].
pub(crate) fn bits_f16(weights: &[half::f16]) -> Vec<u16> {
    weights.iter().map(|w| if w.is_nan() { 0x7e00 } else { w.to_bits() }).collect()
}

/// All weights of a tensor as f32.
pub(crate) fn all_f32(tensor: &anepipe_gguf::Tensor<'_>) -> Vec<f32> {
    let mut out = vec![0.0; tensor.len() as usize];
    tensor.dequantize_rows_f32(0..tensor.rows(), &mut out).unwrap();
    out
}

/// All weights of a tensor as f16.
pub(crate) fn all_f16(tensor: &anepipe_gguf::Tensor<'_>) -> Vec<half::f16> {
    let mut out = vec![half::f16::ZERO; tensor.len() as usize];
    tensor.dequantize_rows_f16(0..tensor.rows(), &mut out).unwrap();
    out
}
