//! All that is asked of Core ML.
//!
//! Apple's framework is one engine; tests are others, which hold the device to Core ML's rules on any system.

use std::path::Path;

use half::f16;

use super::failure::Failure;
use super::strides::Layout;
use crate::device::Signature;
use crate::tensor::Tensor;

/// Looks at a buffer: the memory it takes, and how its elements lie there.
pub type Look<'a> = dyn FnMut(&[f16], &Layout) -> Result<(), Failure> + 'a;

/// Changes a buffer: the memory it takes, and how its elements lie there.
pub type Change<'a> = dyn FnMut(&mut [f16], &Layout) -> Result<(), Failure> + 'a;

/// Something that runs functions of compiled models as Core ML does: one by one, each with states of its own.
pub trait Engine: Send + Sync + 'static {
    /// A loaded function. Any number of states may be at work on it, from any threads.
    type Function: Send + Sync;

    /// What one conversation with one function changes: its states, and the arrays of its passes.
    type State: Send;

    /// Loads a function of the model at `path`, whose interface is `signature`: the one called `name`, or the default one.
    fn load(&self, path: &Path, name: Option<&str>, signature: &Signature)
    -> Result<Self::Function, Failure>;

    /// Zeroed states, and every array that a pass needs.
    fn new_state(&self, function: &Self::Function) -> Result<Self::State, Failure>;

    /// Runs `function` once on a state that it made. Tensors are those of its signature.
    fn predict(
        &self,
        function: &Self::Function,
        state: &mut Self::State,
        inputs: &[Tensor],
        outputs: &mut [Tensor],
    ) -> Result<(), Failure>;

    /// Shows the buffer of the state `name`, once.
    fn look(&self, state: &Self::State, name: &str, look: &mut Look<'_>) -> Result<(), Failure>;

    /// Gives the buffer of the state `name` to be changed, once.
    fn change(&self, state: &mut Self::State, name: &str, change: &mut Change<'_>) -> Result<(), Failure>;
}
