//! What a device offers: load a compiled shard, make its state, run it.
//!
//! Two devices implement this: the portable executor and Core ML. Sessions and gates know only these traits.

use std::any::Any;
use std::path::Path;

use half::f16;

use crate::error::RuntimeError;
use crate::tensor::Tensor;

/// One tensor of a shard's interface. All are fp16.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in the program.
    pub name: String,
    /// Extents, slowest first.
    pub shape: Vec<usize>,
}

/// A shard's interface. Inputs and outputs of [`Shard::predict`] stand in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Inputs in program order, states excluded.
    pub inputs: Vec<Port>,
    /// Outputs in program order.
    pub outputs: Vec<Port>,
    /// States in program order.
    pub states: Vec<Port>,
}

impl Signature {
    /// Fresh zeroed tensors for every input.
    pub fn new_inputs(&self) -> Vec<Tensor> {
        self.inputs.iter().map(|port| Tensor::zeros(&port.shape)).collect()
    }

    /// Fresh zeroed tensors for every output.
    pub fn new_outputs(&self) -> Vec<Tensor> {
        self.outputs.iter().map(|port| Tensor::zeros(&port.shape)).collect()
    }

    /// The position of the input called `name`.
    pub fn input(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|port| port.name == name)
    }
}

/// Something that executes compiled shards.
pub trait Device: Send + Sync {
    /// `portable` or `coreml`; stands in reports.
    fn name(&self) -> &'static str;

    /// Loads `model` (a `.mlmodelc` directory), the function called `function` or its default.
    fn load(&self, model: &Path, function: Option<&str>) -> Result<Box<dyn Shard>, RuntimeError>;
}

/// A loaded shard. Weights are shared; all that changes is in a [`State`].
pub trait Shard: Send + Sync {
    /// The interface.
    fn signature(&self) -> &Signature;

    /// A zeroed state.
    fn new_state(&self) -> Box<dyn State>;

    /// Runs the shard once. `inputs` and `outputs` stand in the signature's order and have its shapes; a state made
    /// by another shard is an error. On error the state is unspecified and must be dropped.
    fn predict(
        &self,
        inputs: &[Tensor],
        state: &mut dyn State,
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError>;
}

/// The mutable buffers of one conversation with one shard: its KV cache.
pub trait State: Send + Any {
    /// Copies the state called `name` out, in its port's layout.
    fn read(&self, name: &str) -> Result<Vec<f16>, RuntimeError>;

    /// Overwrites the state called `name`.
    fn write(&mut self, name: &str, values: &[f16]) -> Result<(), RuntimeError>;
}
