//! Core ML's ML Program formats: packages, weight blobs, MIL text, the portable compiler.

pub mod blob;
pub mod float;
pub mod modelc;
pub mod opset;
pub mod program;
pub mod text;
mod types;
