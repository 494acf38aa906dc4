//! The build: contract, stages, action graph, scheduler, gates.

pub mod action;
pub mod build;
pub mod config;
pub mod contract;
pub mod error;
pub mod event;
pub mod gates;
pub mod operation;
pub mod python;
pub mod scheduler;
pub mod stage;
pub mod stages;
pub mod tensors;
pub mod topology;
pub mod verdict;
mod whole;
