//! The stages of a build, one a file: each takes files and gives files, and knows nothing of caching.

pub mod compile;
pub mod convert;
pub mod exact;
pub mod extract;
pub mod golden;
pub mod graph;
pub mod parity;
pub mod quantize;
pub mod range;
pub mod residency;
mod whole;

pub use whole::WholeError;
