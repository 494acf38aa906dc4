//! The arithmetic that defines every bit the portable device computes.
//!
//! Written for reading, one scalar at a time: the interpreter is built from these functions alone, and every fast
//! kernel is held against them. `docs/arithmetic.md` says the same in prose.

pub mod elementary;
pub mod fixed;
pub mod half;
pub mod lanes;
pub mod operator;
