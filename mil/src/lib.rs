//! Core ML's ML Program formats: packages, weight blobs, MIL text, the portable compiler.

pub mod program;
