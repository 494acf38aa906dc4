//! Reads GGUF model files: metadata, tensors, row-streamed dequantization.
#![allow(clippy::doc_markdown)] // Q4_0 and its kin are words here, not code

mod cursor;
mod dequant;
mod dtype;
mod error;
mod finite;
mod gguf;
mod header;
mod layout;
mod metadata;
mod source;
mod split;
mod tensor;
mod value;

pub use self::{
    dtype::TensorType,
    error::{GgufError, Malformed, SplitProblem},
    finite::{first_non_finite_f16, first_non_finite_f32},
    gguf::Gguf,
    metadata::{FromValue, Metadata},
    tensor::Tensor,
    value::{Array, Strings, Value, ValueType},
};
