//! An engine that keeps Core ML's rules on any system, and runs functions on the portable device.
//!
//! As in Core ML, a function is loaded by itself, a state belongs to the function that made it, and the buffers of states have rows
//! with gaps: those of the function's own, so that a copy between two functions has to mind both.
#![allow(unreachable_pub)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use anepipe_runtime::coreml::Engine;
use anepipe_runtime::coreml::engine::{Change, Look};
use anepipe_runtime::coreml::failure::{Cause, Failure};
use anepipe_runtime::coreml::strides::{self, Layout};
use anepipe_runtime::device::{Device, Shard, Signature, State};
use anepipe_runtime::portable::PortableDevice;
use anepipe_runtime::tensor::Tensor;
use half::f16;

/// What goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing.
    None,
    /// The second function is not loaded.
    Load,
    /// No state is made.
    State,
    /// No pass is run.
    Predict,
    /// The buffers of states are half as long as they should be.
    ShortBuffers,
    /// A switch that copies nothing. Must be noticed.
    Forgetful,
}

/// What was asked of the engine, in order.
pub type Calls = Arc<Mutex<Vec<String>>>;

pub struct Rules {
    pub refusal: Refusal,
    pub calls: Calls,
}

impl Rules {
    pub fn new(refusal: Refusal) -> (Self, Calls) {
        let calls = Calls::default();
        (Self { refusal, calls: Arc::clone(&calls) }, calls)
    }

    fn call(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }
}

pub struct Loaded {
    shard: Box<dyn Shard>,
    function: usize,
    /// Elements between the rows of its states' buffers, beyond those of a row.
    gap: usize,
}

pub struct Owned {
    state: Box<dyn State>,
    function: usize,
    gap: usize,
    signature: Signature,
}

pub fn reported(description: &str) -> Failure {
    let (domain, description) = ("com.apple.CoreML".to_owned(), description.to_owned());
    Failure::Reported { causes: vec![Cause { domain, code: 0, description }] }
}

impl Engine for Rules {
    type Function = Loaded;
    type State = Owned;

    fn load(&self, path: &Path, name: Option<&str>, signature: &Signature) -> Result<Loaded, Failure> {
        self.call(format!("load {}", name.unwrap_or("-")));
        let shard = PortableDevice::new().load(path).unwrap();
        let function = name.map_or(0, |name| shard.find(name).unwrap());
        if self.refusal == Refusal::Load && function == 1 {
            return Err(reported("Failed to build the model execution plan with error code: -14."));
        }
        assert_eq!(&shard.functions()[function].signature, signature);
        Ok(Loaded { shard, function, gap: 3 + 2 * function })
    }

    fn new_state(&self, function: &Loaded) -> Result<Owned, Failure> {
        if self.refusal == Refusal::State {
            return Err(reported("Failed to allocate 4194304 bytes"));
        }
        let Loaded { shard, function, gap } = function;
        let signature = shard.functions()[*function].signature.clone();
        Ok(Owned { state: shard.new_state(), function: *function, gap: *gap, signature })
    }

    fn predict(
        &self,
        function: &Loaded,
        state: &mut Owned,
        inputs: &[Tensor],
        outputs: &mut [Tensor],
    ) -> Result<(), Failure> {
        assert_eq!(function.function, state.function, "a state was given to a function that did not make it");
        self.call(format!("predict {}", function.function));
        if self.refusal == Refusal::Predict {
            return Err(reported("Something happened."));
        }
        function.shard.predict(function.function, inputs, state.state.as_mut(), outputs).unwrap();
        Ok(())
    }

    fn look(&self, state: &Owned, name: &str, look: &mut Look<'_>) -> Result<(), Failure> {
        self.call(format!("look {} {name}", state.function));
        let (padded, mut buffer) = buffer(state, name);
        let dense = Layout::dense(padded.shape()).unwrap();
        strides::copy(&dense, &state.state.read(name).unwrap(), &padded, &mut buffer).unwrap();
        let length = if self.refusal == Refusal::ShortBuffers { buffer.len() / 2 } else { buffer.len() };
        look(&buffer[..length], &padded)
    }

    fn change(&self, state: &mut Owned, name: &str, change: &mut Change<'_>) -> Result<(), Failure> {
        self.call(format!("change {} {name}", state.function));
        let (padded, mut buffer) = buffer(state, name);
        let dense = Layout::dense(padded.shape()).unwrap();
        let mut values = state.state.read(name).unwrap();
        strides::copy(&dense, &values, &padded, &mut buffer).unwrap();
        let length = if self.refusal == Refusal::ShortBuffers { buffer.len() / 2 } else { buffer.len() };
        change(&mut buffer[..length], &padded)?;
        strides::copy(&padded, &buffer, &dense, &mut values).unwrap();
        if self.refusal != Refusal::Forgetful {
            state.state.write(name, &values).unwrap();
        }
        Ok(())
    }
}

/// A buffer of the state `name` with nothing in it that could pass for a value.
fn buffer(state: &Owned, name: &str) -> (Layout, Vec<f16>) {
    let port = &state.signature.states[state.signature.state(name).unwrap()];
    let mut strides = vec![0; port.shape.len()];
    let mut next = 1;
    for (axis, &extent) in port.shape.iter().enumerate().rev() {
        strides[axis] = next;
        next = next * extent + state.gap;
    }
    let layout = Layout::new(&port.shape, &strides).unwrap();
    let buffer = vec![f16::NAN; layout.span()];
    (layout, buffer)
}
