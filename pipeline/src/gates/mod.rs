//! The gates: proofs that shards and whole models are right before they ship.

pub mod exact;
pub mod golden;
pub mod parity;
pub mod range;
pub mod residency;
