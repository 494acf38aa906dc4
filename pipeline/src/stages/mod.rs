//! The stages of a build, one a file: each takes files and gives files, and knows nothing of caching.

pub mod convert;
pub mod extract;
pub mod graph;
pub mod quantize;
