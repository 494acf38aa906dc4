//! The store from outside, as the build uses it.

// Children talk to their tests through it.
#![allow(clippy::print_stdout)]

mod actions;
mod children;
mod collect;
mod damage;
mod disk;
mod files;
mod index;
mod inputs;
mod places;
mod support;
mod trees;
