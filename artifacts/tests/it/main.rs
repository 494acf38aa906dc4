//! The store from outside, as the build uses it.

mod actions;
mod inputs;
mod support;
