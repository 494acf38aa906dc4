//! Reads GGUF model files: metadata, tensors, row-streamed dequantization.
//!
//! [GGUF](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) is the file format of llama.cpp: typed metadata
//! (what the model is, its tokenizer) followed by named tensors, most of them quantized in blocks. This crate maps such
//! files into memory, checks all of their structure before it gives anything out, and turns weights into f32 or f16 a
//! few rows at a time.
//!
//! # Reading a model
//!
//! ```
//! use anepipe_gguf::{Gguf, GgufError};
//!
//! # fn main() -> Result<(), GgufError> {
//! # let path = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/types.gguf"));
//! let model = Gguf::open(path)?;
//!
//! // Metadata has no defaults: a key is there and of the type asked for, or an error names it.
//! let architecture = model.metadata().string("general.architecture")?;
//! assert_eq!(architecture, "fixture");
//! let error = model.metadata().u32("phi3.block_count").unwrap_err();
//! assert!(error.to_string().ends_with("has no metadata key \"phi3.block_count\""));
//!
//! // Weights come by rows, into a buffer of the caller's.
//! let tensor = model.tensor("Q4_K").expect("the fixture has one");
//! let mut row = vec![0.0; tensor.row_len() as usize];
//! for index in 0..tensor.rows() {
//!     tensor.dequantize_rows_f32(index..index + 1, &mut row)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is read
//!
//! * **Files**: versions 2 and 3, little-endian, with any `general.alignment`. Big-endian files are refused as such. A
//!   model split into `name-00001-of-0000N.gguf` opens as one from any of its files.
//! * **Tensors** of every type are listed. F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K,
//!   IQ4_NL and IQ4_XS can be dequantized, to the bits that gguf-py (0.19) gives; other types are refused when their
//!   weights are asked for.
//! * **Shapes** are listed fastest dimension first by [`Tensor::dims`], as in the file, and slowest first by
//!   [`Tensor::shape`]. A row is a run along the fastest dimension. A matrix that maps `n` inputs to `m` outputs has
//!   dims `[n, m]`: `m` rows of `n` weights.
//!
//! # What is refused
//!
//! [`Gguf::open`] either proves that a file is sound or says what is not ([`Malformed`]), at which byte, and of which
//! key or tensor: every string is UTF-8, every name unique, every tensor's data whole, aligned, in the file and shared
//! with no other tensor. A length in a file is believed only as far as the file has bytes for it, so no file costs more
//! memory than a small multiple of its metadata's size. What an open model gives out can no longer fail for the file's
//! sake.
//!
//! Infinite and NaN weights are not refused, since a file may hold them. [`first_non_finite_f16`] and
//! [`first_non_finite_f32`] find them in weights that were read, at the speed of memory.
//!
//! # Memory
//!
//! Opening costs the metadata; nothing else is read until it is asked for. Dequantizing allocates nothing. Pages of the
//! file that were read count as the process's memory until [`Tensor::release`] lets them go. The files must not be
//! written to while they are open: this is the one promise that mapping a file asks for and cannot check.
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
