//! The portable device: runs compiled shards on any CPU, with the same bits on all of them.
//!
//! [`arith`] defines the arithmetic, [`graph`] checks a program and types its operations, [`interpreter`] runs them one
//! by one, and [`plan`] runs them fast. Interpreter and plan agree bit for bit, state included; `docs/arithmetic.md`
//! says what those bits are. An [`Observer`] sees the values on the way, a [`Profiler`] the
//! time.

// Functions on single numbers are compiled again into loops for each instruction set; that needs them inline.
#![allow(clippy::inline_always)]
// Bits are what this module is about: equal means equal.
#![allow(clippy::float_cmp)]
// A range over lanes is how a loop over several arrays of lanes is written.
#![allow(clippy::needless_range_loop)]

pub mod arith;
mod cache;
mod device;
#[cfg(test)]
#[path = "../../tests/fixture/mod.rs"]
mod fixture;
pub mod graph;
mod interpreter;
pub mod kernel;
mod observe;
mod plan;
mod profile;
mod shard;
mod threads;

pub use device::{Executor, PortableDevice};
pub use graph::ProgramError;
pub use kernel::Isa;
pub use observe::{Kind, Observed, Observer, Side};
pub use profile::{KernelKind, KernelRun, Profiler};
