//! The portable device's arithmetic and kernels by themselves.
//!
//! `make check-arm` builds their tests for 64-bit ARM, which takes a minute; `anepipe-runtime` with everything that it builds
//! on would take ten. Nothing else uses this package, and it has no code of its own.

// What is elsewhere used by plans, and reached from other modules, is not here.
#![allow(dead_code, unreachable_pub)]

pub mod portable;
