//! Runs shipped bundles: devices, state, the portable executor.

pub mod device;
pub mod error;
pub mod tensor;
