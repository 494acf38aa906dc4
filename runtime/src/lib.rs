//! Runs shipped bundles: devices, state, the portable executor.

pub mod device;
pub mod error;
pub mod pass;
pub mod rope;
pub mod tensor;
