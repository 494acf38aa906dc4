//! The whole command, run as people run it: what it prints, what it leaves behind, and the code it exits with.
//!
//! Every test has its own folder, store and output, so that tests run at the same time and in any order.
#![allow(missing_docs, clippy::print_stderr)]

mod bad_input;
mod bench;
mod build;
mod decode;
mod determinism;
mod gates;
mod harness;
mod interruptions;
mod range;
mod report;
mod usage;
