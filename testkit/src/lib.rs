//! Test tools: synthetic GGUF models and other fixtures that are made, never fetched.
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
