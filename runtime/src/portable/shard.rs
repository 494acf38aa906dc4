//! Loaded shards and their state.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use anepipe_mil::modelc::ModelC;
use half::f16;

use super::cache::Cache;
use super::device::Executor;
use super::graph::{self, Graph, ProgramError};
use super::interpreter;
use super::kernel::Isa;
use super::plan::{self, Plan};
use super::threads::Threads;
use crate::device::{Port, Shard, Signature, State};
use crate::error::RuntimeError;
use crate::tensor::Tensor;

/// What a shard and its states share.
pub(super) struct Program {
    graph: Graph,
    signature: Signature,
    /// Absent where the interpreter runs the graph.
    plan: Option<Plan>,
    isa: Isa,
    threads: Threads,
}

/// The most bytes that states and results may take together: far above what any shard needs.
const MAX_BYTES: u128 = 1 << 36;

/// A shard of the portable device.
pub(super) struct PortableShard {
    program: Arc<Program>,
}

impl PortableShard {
    pub(super) fn load(
        path: &Path,
        function: Option<&str>,
        executor: Executor,
        isa: Isa,
        threads: &Threads,
    ) -> Result<Self, RuntimeError> {
        let refuse = |source| RuntimeError::Program { path: path.to_owned(), source };
        let model = ModelC::open(path).map_err(|error| refuse(ProgramError::Model(error.to_string())))?;
        let graph = graph::lower(&Arc::new(model), function).map_err(refuse)?;
        let port = |id| {
            let value = graph.value(id);
            Port { name: value.name.clone(), shape: value.shape.clone() }
        };
        let signature = Signature {
            inputs: graph.inputs.iter().copied().map(port).collect(),
            outputs: graph.outputs.iter().copied().map(port).collect(),
            states: graph
                .states
                .iter()
                .map(|state| Port { name: state.name.clone(), shape: state.shape.clone() })
                .collect(),
        };
        let plan = match executor {
            Executor::Plan => Plan::new(&graph),
            Executor::Interpreter => None,
        };
        let states = graph.states.iter().map(|state| state.shape.iter().product::<usize>());
        let buffers = plan.as_ref().map_or(0, Plan::buffer_elements);
        let bytes = states.chain([buffers]).map(|elements| 2 * elements as u128).sum();
        if bytes > MAX_BYTES {
            let function = graph.function;
            return Err(refuse(ProgramError::TooLarge { function, bytes, limit: MAX_BYTES }));
        }
        let threads = threads.clone();
        Ok(Self { program: Arc::new(Program { graph, signature, plan, isa, threads }) })
    }
}

impl Shard for PortableShard {
    fn signature(&self) -> &Signature {
        &self.program.signature
    }

    fn new_state(&self) -> Box<dyn State> {
        let program = Arc::clone(&self.program);
        let caches = program.graph.states.iter().map(|state| Cache::zeros(&state.shape)).collect();
        let scratch = program.plan.as_ref().map(|plan| plan.scratch(program.isa));
        Box::new(PortableState { program, caches, scratch })
    }

    fn predict(
        &self,
        inputs: &[Tensor],
        state: &mut dyn State,
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError> {
        let state = (state as &mut dyn Any)
            .downcast_mut::<PortableState>()
            .filter(|state| Arc::ptr_eq(&state.program, &self.program))
            .ok_or_else(|| {
                RuntimeError::Mismatch("the state was made by another shard; make one with new_state".into())
            })?;
        fits("input", &self.program.signature.inputs, inputs)?;
        fits("output", &self.program.signature.outputs, outputs)?;
        let caches = &mut state.caches;
        match (&self.program.plan, &mut state.scratch) {
            (Some(plan), Some(scratch)) => {
                self.program.threads.run(|| plan.run(scratch, inputs, caches, outputs));
            }
            _ => interpreter::run(&self.program.graph, inputs, caches, outputs),
        }
        Ok(())
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

/// The state of one conversation with one shard.
struct PortableState {
    program: Arc<Program>,
    caches: Vec<Cache>,
    /// Absent where the interpreter runs the graph.
    scratch: Option<plan::Scratch>,
}

impl PortableState {
    fn find(&self, name: &str) -> Result<usize, RuntimeError> {
        let states = &self.program.signature.states;
        states.iter().position(|port| port.name == name).ok_or_else(|| {
            let names: Vec<&str> = states.iter().map(|port| port.name.as_str()).collect();
            RuntimeError::Mismatch(format!("there is no state `{name}`; there are: {}", names.join(", ")))
        })
    }
}

impl State for PortableState {
    fn read(&self, name: &str) -> Result<Vec<f16>, RuntimeError> {
        Ok(self.caches[self.find(name)?].elements().to_vec())
    }

    fn write(&mut self, name: &str, values: &[f16]) -> Result<(), RuntimeError> {
        let index = self.find(name)?;
        let cache = &mut self.caches[index];
        let (wanted, given) = (cache.elements().len(), values.len());
        if wanted != given {
            return Err(RuntimeError::Mismatch(format!(
                "state `{name}` has {wanted} elements, {given} were given"
            )));
        }
        cache.replace(values);
        Ok(())
    }
}
