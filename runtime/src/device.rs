//! What a device offers: load a compiled shard, make its state, run one of its functions.
//!
//! A compiled shard has one function for each number of tokens that a pass may take (`t1`, `t4`; `main` where there is one),
//! over the same weights and the same states. So one [`Shard`] offers all of them, and a [`State`] belongs to the shard, not to
//! a function: prefill fills the widest program, plain decoding runs the narrowest, verification one in between, all on one KV
//! cache. A device that has to load functions one by one keeps what they share behind these traits.
//!
//! Two devices implement this: the portable executor and Core ML. Sessions and gates know only these traits; [`open`] makes the one
//! that a command names.

mod load_time;
mod open;

use std::any::Any;
use std::path::Path;

use half::f16;

pub use self::load_time::{LoadTime, LoadTimes};
pub use self::open::{Cpu, DeviceKind, open};
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

/// A function's interface. Inputs and outputs of [`Shard::predict`] stand in this order.
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

    /// Whether a pass can be run on these tensors.
    pub fn check(&self, inputs: &[Tensor], outputs: &[Tensor]) -> Result<(), RuntimeError> {
        fits("input", &self.inputs, inputs)?;
        fits("output", &self.outputs, outputs)
    }

    /// The position of the state called `name`.
    pub fn state(&self, name: &str) -> Result<usize, RuntimeError> {
        self.states.iter().position(|port| port.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.states.iter().map(|port| port.name.as_str()).collect();
            RuntimeError::Mismatch(format!("there is no state `{name}`; there are: {}", names.join(", ")))
        })
    }
}

impl Port {
    /// Elements of the tensor.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether `values` are as many as a state of this shape has.
    pub fn check_state(&self, values: &[f16]) -> Result<(), RuntimeError> {
        let (name, wanted, given) = (&self.name, self.elements(), values.len());
        if wanted == given {
            return Ok(());
        }
        Err(RuntimeError::Mismatch(format!("state `{name}` has {wanted} elements, {given} were given")))
    }
}

fn fits(role: &str, ports: &[Port], tensors: &[Tensor]) -> Result<(), RuntimeError> {
    if ports.len() != tensors.len() {
        let (wanted, given) = (ports.len(), tensors.len());
        return Err(RuntimeError::Mismatch(format!("it has {wanted} {role}s, {given} tensors were given")));
    }
    match ports.iter().zip(tensors).find(|(port, tensor)| port.shape != tensor.shape()) {
        Some((Port { name, shape }, tensor)) => {
            let given = tensor.shape();
            Err(RuntimeError::Mismatch(format!(
                "{role} `{name}` has the shape {shape:?}, the tensor given {given:?}"
            )))
        }
        None => Ok(()),
    }
}

/// One function of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Name in the program.
    pub name: String,
    /// Its interface.
    pub signature: Signature,
}

/// Something that executes compiled shards.
pub trait Device: Send + Sync {
    /// `portable` or `coreml`; stands in reports.
    fn name(&self) -> &'static str;

    /// Loads `model` (a `.mlmodelc` directory) with all its functions. Weights are mapped once.
    fn load(&self, model: &Path) -> Result<Box<dyn Shard>, RuntimeError>;

    /// What loading took so far, on a device where that is worth telling: nothing, unless it says otherwise.
    fn load_times(&self) -> Vec<LoadTime> {
        Vec::new()
    }
}

/// A loaded shard. Weights are shared; all that changes is in a [`State`].
pub trait Shard: Send + Sync {
    /// The functions, by name ascending; at least one. All have the same states in the same order.
    fn functions(&self) -> &[Function];

    /// A zeroed state, for every function of this shard.
    fn new_state(&self) -> Box<dyn State>;

    /// Runs function number `function` of [`Shard::functions`] once. `inputs` and `outputs` stand in its signature's order and
    /// have its shapes; a state made by another shard is an error. On error the state is unspecified and must be dropped.
    fn predict(
        &self,
        function: usize,
        inputs: &[Tensor],
        state: &mut dyn State,
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError>;
}

/// The name of the function that takes `width` tokens, in a shard with functions of `widths`.
pub fn function_name(widths: &[u32], width: u32) -> String {
    if widths.len() > 1 { format!("t{width}") } else { "main".to_owned() }
}

impl dyn Shard + '_ {
    /// The number of the function called `name`.
    pub fn find(&self, name: &str) -> Result<usize, RuntimeError> {
        let functions = self.functions();
        functions.iter().position(|function| function.name == name).ok_or_else(|| {
            let names: Vec<String> =
                functions.iter().map(|function| format!("`{}`", function.name)).collect();
            RuntimeError::Function { wanted: name.to_owned(), available: names.join(", ") }
        })
    }
}

/// The mutable buffers of one conversation with one shard: its KV cache, which all functions of the shard share.
pub trait State: Send + Any {
    /// Copies the state called `name` out, in its port's layout.
    fn read(&self, name: &str) -> Result<Vec<f16>, RuntimeError>;

    /// Overwrites the state called `name`.
    fn write(&mut self, name: &str, values: &[f16]) -> Result<(), RuntimeError>;

    /// Lets `look` see the state called `name`, in its port's layout: [`State::read`] without the copy, where a device can.
    fn look(&self, name: &str, look: &mut dyn FnMut(&[f16])) -> Result<(), RuntimeError> {
        look(&self.read(name)?);
        Ok(())
    }

    /// Lets `edit` change the state called `name`, in its port's layout: [`State::read`] and [`State::write`] without the copies,
    /// where a device can.
    fn edit(&mut self, name: &str, edit: &mut dyn FnMut(&mut [f16])) -> Result<(), RuntimeError> {
        let mut values = self.read(name)?;
        edit(&mut values);
        self.write(name, &values)
    }
}
