//! The residency gate on whole programs: held to published placements, on graphs that must fail, and as a stage.
#![cfg(target_os = "linux")]

mod calibration;
mod kit;
mod negatives;
mod placements;
#[path = "../python/mod.rs"]
mod python;
mod stage;
