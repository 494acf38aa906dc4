//! The build: contract, stages, action graph, scheduler, gates.

pub mod contract;
pub mod gates;
pub mod python;
pub mod stages;
pub mod tensors;
mod whole;
