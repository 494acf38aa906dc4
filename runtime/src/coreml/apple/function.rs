//! A loaded function: a model (`MLModel`) of its own, as Core ML has it.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use objc2::rc::{Retained, autoreleasepool};
use objc2_core_ml::{MLComputeUnits, MLModel, MLModelConfiguration};
use objc2_foundation::{NSString, NSURL};

use super::report::reported;
use crate::coreml::failure::Failure;
use crate::device::Signature;

/// A loaded function and its interface.
pub struct AppleFunction {
    model: Mutex<Exclusive>,
    signature: Signature,
}

/// A model. Core ML wants one thread at a time in it.
struct Exclusive(Retained<MLModel>);

// SAFETY: a model may be used from any thread, as long as it is one at a time; the mutex around it sees to that.
unsafe impl Send for Exclusive {}

impl AppleFunction {
    pub(super) fn load(path: &Path, name: Option<&str>, signature: &Signature) -> Result<Self, Failure> {
        let not_a_url = || Failure::Path { path: path.display().to_string() };
        autoreleasepool(|_| {
            let url = NSURL::from_directory_path(path).ok_or_else(not_a_url)?;
            // SAFETY: plain properties of a new object; a name is copied.
            let configuration = unsafe {
                let configuration = MLModelConfiguration::new();
                configuration.setComputeUnits(MLComputeUnits::CPUAndNeuralEngine);
                if let Some(name) = name {
                    configuration.setFunctionName(Some(&NSString::from_str(name)));
                }
                configuration
            };
            // SAFETY: both live through the call.
            let model = unsafe { MLModel::modelWithContentsOfURL_configuration_error(&url, &configuration) };
            let model = model.map_err(|error| reported(&error))?;
            Ok(Self { model: Mutex::new(Exclusive(model)), signature: signature.clone() })
        })
    }

    pub(super) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Does `work` with the model, alone.
    pub(super) fn with<T>(&self, work: impl FnOnce(&MLModel) -> T) -> T {
        let model: MutexGuard<'_, Exclusive> = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        work(&model.0)
    }
}
