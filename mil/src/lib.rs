//! Core ML's ML Program formats: packages, weight blobs, MIL text, the portable compiler.

pub mod blob;
pub mod compile;
pub mod float;
pub mod modelc;
pub mod opset;
pub mod package;
pub mod program;
pub mod proto;
mod references;
pub mod summary;
pub mod text;
mod types;
