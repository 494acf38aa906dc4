//! The engine that is Core ML.
//!
//! | module | is |
//! |---|---|
//! | [`array`] | multi arrays over memory of our own, and a look into those that Core ML made |
//! | [`function`] | a loaded function (`MLModel`) |
//! | [`state`] | its states (`MLState`) and the arrays of a pass |
//! | [`report`] | what an `NSError` says |
#![allow(unsafe_code)]

mod array;
mod function;
mod report;
mod state;

use std::path::Path;

use objc2_foundation::NSProcessInfo;

use self::function::AppleFunction;
use self::state::AppleState;
use super::device::CoreMlDevice;
use super::engine::{Change, Engine, Look};
use super::failure::Failure;
use super::system;
use crate::device::Signature;
use crate::error::RuntimeError;
use crate::tensor::Tensor;

/// Runs compiled shards on the Neural Engine and the CPU.
pub type AppleDevice = CoreMlDevice<AppleEngine>;

impl AppleDevice {
    /// The device, if this system has what it needs.
    pub fn open() -> Result<Self, RuntimeError> {
        let version = NSProcessInfo::processInfo().operatingSystemVersion();
        system::check(std::env::consts::OS, version.majorVersion)?;
        Ok(Self::new(AppleEngine(())))
    }
}

/// Core ML, on a system that has states. [`AppleDevice::open`] is the only way to get one.
#[derive(Debug)]
pub struct AppleEngine(());

impl Engine for AppleEngine {
    type Function = AppleFunction;
    type State = AppleState;

    fn load(&self, path: &Path, name: Option<&str>, signature: &Signature) -> Result<AppleFunction, Failure> {
        AppleFunction::load(path, name, signature)
    }

    fn new_state(&self, function: &AppleFunction) -> Result<AppleState, Failure> {
        AppleState::new(function)
    }

    fn predict(
        &self,
        function: &AppleFunction,
        state: &mut AppleState,
        inputs: &[Tensor],
        outputs: &mut [Tensor],
    ) -> Result<(), Failure> {
        state.predict(function, inputs, outputs)
    }

    fn look(&self, state: &AppleState, name: &str, look: &mut Look<'_>) -> Result<(), Failure> {
        state.look(name, &mut |array| array::look(array, name, look))
    }

    fn change(&self, state: &mut AppleState, name: &str, change: &mut Change<'_>) -> Result<(), Failure> {
        state.look(name, &mut |array| array::change(array, name, change))
    }
}
