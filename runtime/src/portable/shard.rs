//! Loaded shards and their state.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anepipe_mil::modelc::ModelC;
use half::f16;

use super::cache::Cache;
use super::device::Executor;
use super::graph::{self, Graph, ProgramError};
use super::interpreter;
use super::kernel::Isa;
use super::observe::{Observer, Watch};
use super::plan::{self, Pass, Plan};
use super::profile::{Profiler, Stopwatch};
use super::threads::Threads;
use crate::device::{Function, Port, Shard, Signature, State};
use crate::error::RuntimeError;
use crate::tensor::Tensor;

/// What a shard and its states share.
pub(super) struct Program {
    /// As [`Shard::functions`] gives them.
    functions: Vec<Function>,
    /// One for each function.
    bodies: Vec<Body>,
    isa: Isa,
    threads: Threads,
    /// The `.mlmodelc` folder, for onlookers.
    path: PathBuf,
    onlookers: Onlookers,
}

/// Who is told of what passes do.
#[derive(Debug, Clone, Default)]
pub(super) struct Onlookers {
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) profiler: Option<Arc<dyn Profiler>>,
}

/// What a function comes to.
struct Body {
    graph: Graph,
    /// Absent where the interpreter runs the graph.
    plan: Option<Plan>,
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
        executor: Executor,
        isa: Isa,
        threads: &Threads,
        onlookers: Onlookers,
    ) -> Result<Self, RuntimeError> {
        let refuse = |source| RuntimeError::Program { path: path.to_owned(), source };
        let model = ModelC::open(path).map_err(|error| refuse(ProgramError::Model(error.to_string())))?;
        let watched = onlookers.observer.is_some();
        let (functions, bodies) = read(&Arc::new(model), executor, watched).map_err(refuse)?;
        let (threads, path) = (threads.clone(), path.to_owned());
        Ok(Self { program: Arc::new(Program { functions, bodies, isa, threads, path, onlookers }) })
    }
}

/// Every function of `model`, over the same mapped weights.
fn read(
    model: &Arc<ModelC>,
    executor: Executor,
    watched: bool,
) -> Result<(Vec<Function>, Vec<Body>), ProgramError> {
    let (mut functions, mut bodies) = (Vec::<Function>::new(), Vec::<Body>::new());
    for name in model.program().functions.keys() {
        let graph = graph::lower(model, Some(name))?;
        let signature = signature(&graph);
        if let Some(other) = functions.first().filter(|other| other.signature.states != signature.states) {
            return Err(ProgramError::States { function: name.clone(), other: other.name.clone() });
        }
        let plan = match executor {
            Executor::Plan => Plan::new(&graph, watched),
            Executor::Interpreter => None,
        };
        functions.push(Function { name: name.clone(), signature });
        bodies.push(Body { graph, plan });
    }
    let states = bodies.first().map_or(&[][..], |body| &body.graph.states);
    let states = states.iter().map(|state| state.shape.iter().product::<usize>());
    let buffers = bodies.iter().filter_map(|body| body.plan.as_ref()).map(Plan::buffer_elements);
    match states.chain(buffers).map(|elements| 2 * elements as u128).sum() {
        0..=MAX_BYTES if !functions.is_empty() => Ok((functions, bodies)),
        0..=MAX_BYTES => Err(ProgramError::Model("its program has no function; convert it again".to_owned())),
        bytes => Err(ProgramError::TooLarge { bytes, limit: MAX_BYTES }),
    }
}

fn signature(graph: &Graph) -> Signature {
    let port = |id| {
        let value = graph.value(id);
        Port { name: value.name.clone(), shape: value.shape.clone() }
    };
    Signature {
        inputs: graph.inputs.iter().copied().map(port).collect(),
        outputs: graph.outputs.iter().copied().map(port).collect(),
        states: graph
            .states
            .iter()
            .map(|state| Port { name: state.name.clone(), shape: state.shape.clone() })
            .collect(),
    }
}

impl Program {
    fn states(&self) -> &[Port] {
        self.functions.first().map_or(&[], |function| &function.signature.states)
    }
}

impl Shard for PortableShard {
    fn functions(&self) -> &[Function] {
        &self.program.functions
    }

    fn new_state(&self) -> Box<dyn State> {
        let program = Arc::clone(&self.program);
        let caches = program.states().iter().map(|state| Cache::zeros(&state.shape)).collect();
        let scratches = program
            .bodies
            .iter()
            .map(|body| body.plan.as_ref().map(|plan| plan.scratch(program.isa)))
            .collect();
        Box::new(PortableState { program, caches, scratches })
    }

    fn predict(
        &self,
        function: usize,
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
        let Program { functions, bodies, threads, path, onlookers, .. } = &*self.program;
        let (Some(Function { signature, name }), Some(body), Some(scratch)) =
            (functions.get(function), bodies.get(function), state.scratches.get_mut(function))
        else {
            return Err(RuntimeError::Mismatch(format!(
                "it has {} functions, number {function} was asked for",
                functions.len()
            )));
        };
        signature.check(inputs, outputs)?;
        let caches = &mut state.caches;
        let Onlookers { observer, profiler } = onlookers;
        let watch = observer.as_deref().map(|observer| Watch { observer, shard: path, graph: &body.graph });
        let stopwatch =
            profiler.as_deref().map(|profiler| Stopwatch { profiler, shard: path, function: name });
        match (&body.plan, scratch) {
            (Some(plan), Some(scratch)) => {
                plan.run(scratch, inputs, caches, outputs, Pass { threads, watch, stopwatch });
            }
            _ => interpreter::run(&body.graph, inputs, caches, outputs, watch),
        }
        Ok(())
    }
}

/// The state of one conversation with one shard.
struct PortableState {
    program: Arc<Program>,
    caches: Vec<Cache>,
    /// One for each function; absent where the interpreter runs it.
    scratches: Vec<Option<plan::Scratch>>,
}

impl PortableState {
    fn find(&self, name: &str) -> Result<usize, RuntimeError> {
        match self.program.functions.first() {
            Some(function) => function.signature.state(name),
            None => Err(RuntimeError::Mismatch("it has no functions".to_owned())),
        }
    }
}

impl State for PortableState {
    fn read(&self, name: &str) -> Result<Vec<f16>, RuntimeError> {
        Ok(self.caches[self.find(name)?].elements().to_vec())
    }

    fn write(&mut self, name: &str, values: &[f16]) -> Result<(), RuntimeError> {
        let index = self.find(name)?;
        self.program.states()[index].check_state(values)?;
        self.caches[index].replace(values);
        Ok(())
    }

    fn look(&self, name: &str, look: &mut dyn FnMut(&[f16])) -> Result<(), RuntimeError> {
        look(self.caches[self.find(name)?].elements());
        Ok(())
    }

    fn edit(&mut self, name: &str, edit: &mut dyn FnMut(&mut [f16])) -> Result<(), RuntimeError> {
        let index = self.find(name)?;
        self.caches[index].edit(edit);
        Ok(())
    }
}
