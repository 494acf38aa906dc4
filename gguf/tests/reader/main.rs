//! What the reader reads, and what it refuses.
//!
//! The fixtures are written by PyPI `gguf` (see `tests/fixtures/make.py`), which also says what each of them means.
#![allow(clippy::doc_markdown)] // PyPI is a word here

mod bad_input;
mod fixture;
mod metadata;
mod mutations;
mod rows;
mod shared_models;
mod split;
mod types;
mod writer;
