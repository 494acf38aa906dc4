//! The gates: proofs that a shard is right before it ships.

pub mod parity;
