//! The Core ML device: runs compiled shards on Apple's systems, on the Neural Engine and the CPU.
//!
//! **It has been type-checked for `aarch64-apple-darwin` and never been run on a Mac.** What does not need one stands in plain files
//! that are compiled and tested everywhere; what calls Core ML is as little as possible and stands in `apple`.
//!
//! | module | is |
//! |---|---|
//! | [`interface`] | the functions of a compiled model, read from its `model.mil` |
//! | [`strides`] | where the elements of a multi array lie, and copies between two ways of lying |
//! | [`pages`] | memory that multi arrays are made of |
//! | [`failure`] | what Core ML says when it refuses, and what to do about it |
//! | [`engine`] | all that is asked of Core ML, as a trait |
//! | [`device`] | device, shards and states over any engine |
//! | [`system`] | what system it needs |
//! | `apple` | the engine that is Core ML |
//!
//! To Core ML each function of a shard is a model of its own, and a state (`MLState`) belongs to the model that made it. Whether the
//! state of one function may be given to another function of the same program is not documented. So a state here holds one
//! `MLState` for each function that has run, one of them the current one, and when another function is to run, the content is
//! copied over first. `docs/mac.md` tells how to find out on a Mac whether that copy can be saved.

#[cfg(target_vendor = "apple")]
mod apple;
pub mod device;
pub mod engine;
pub mod failure;
pub mod interface;
pub mod pages;
pub mod strides;
pub mod system;

#[cfg(target_vendor = "apple")]
pub use apple::{AppleDevice, AppleEngine};
pub use device::CoreMlDevice;
pub use engine::Engine;
pub use failure::Failure;
