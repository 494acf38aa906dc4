//! Runs shipped bundles: devices, state, the portable executor.

pub mod bundle;
pub mod decode;
pub mod device;
pub mod draft;
pub mod error;
pub mod pass;
pub mod portable;
pub mod rope;
pub mod session;
pub mod tensor;
pub mod token;
pub mod tokenizer;
