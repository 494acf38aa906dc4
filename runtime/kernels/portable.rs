//! What `portable` in `anepipe-runtime` declares, as far as it needs no program.

#![allow(clippy::inline_always, clippy::float_cmp, clippy::needless_range_loop)] // as there

#[path = "../src/portable/arith/mod.rs"]
pub mod arith;
#[path = "kernel.rs"]
pub mod kernel;
#[cfg(test)]
#[path = "../tests/fixture/random.rs"]
pub(crate) mod random;
#[path = "../src/portable/graph/shape.rs"]
pub(crate) mod shape;

#[cfg(test)]
mod fixture {
    pub(crate) use super::random;
}

mod graph {
    pub(crate) use super::shape;
}
