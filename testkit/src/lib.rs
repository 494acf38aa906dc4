//! Test tools: synthetic GGUF models and other fixtures that are made, never fetched.
//!
//! * [`synth`] makes whole phi3 models from a seed, tiny or of Phi-4-mini's dimensions, and changes them one tensor or
//!   key at a time: for tests of contracts, caches and bad input, and for benchmarks at full size.
//! * [`GgufWriter`] writes any GGUF file, whole or split, byte for byte as gguf-py does.
//! * [`Encoding`] stores weights as gguf-py's `quantize` does; [`SplitMix64`] is where randomness comes from.
//!
//! The same from the command line:
//!
//! ```text
//! cargo run --release -p anepipe-testkit -- synth --preset phi-4-mini --layers 1 --vocab 1024 --out layer.gguf
//! ```
//!
//! Nothing here depends on the reader, so that a mistake in one is not repeated in the other.
#![allow(clippy::doc_markdown)] // Q4_0 and its kin are words here, not code

mod encode;
mod rng;
pub mod synth;
mod value;
mod writer;

pub use self::{
    encode::Encoding,
    rng::SplitMix64,
    value::{Value, ValueKind},
    writer::{Content, GgufWriter, TensorDef, WriteError},
};
