//! Device, shards and states, over any [`Engine`].

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use half::f16;

use super::engine::Engine;
use super::failure::Failure;
use super::interface;
use super::strides::{self, Layout, LayoutError};
use crate::device::{Device, Function, LoadTime, LoadTimes, Port, Shard, State};
use crate::error::RuntimeError;
use crate::tensor::Tensor;

/// Runs compiled shards through Core ML.
pub struct CoreMlDevice<E> {
    engine: Arc<E>,
    times: LoadTimes,
}

impl<E: Engine> CoreMlDevice<E> {
    /// A device that asks `engine`.
    pub fn new(engine: E) -> Self {
        Self { engine: Arc::new(engine), times: LoadTimes::default() }
    }
}

impl<E: Engine> Device for CoreMlDevice<E> {
    fn name(&self) -> &'static str {
        "coreml"
    }

    /// Loads each function, one after the other: the first time ever, Core ML compiles each for minutes.
    fn load(&self, model: &Path) -> Result<Box<dyn Shard>, RuntimeError> {
        let path = model.to_owned();
        let functions =
            interface::read(model).map_err(|source| RuntimeError::Program { path: path.clone(), source })?;
        let states = functions.first().map_or(&[][..], |function| &function.signature.states);
        let layouts = layouts(states).map_err(|source| {
            let doing = format!("loading the shard {}", path.display());
            RuntimeError::CoreMl { doing, source }
        })?;
        let mut bodies = Vec::new();
        for (index, Function { name, signature }) in functions.iter().enumerate() {
            let begun = Instant::now();
            let asked = interface::name_to_load(&functions, index);
            let loaded = self.engine.load(model, asked, signature).map_err(|source| {
                let doing = format!("loading function `{name}` of the shard {}", path.display());
                RuntimeError::CoreMl { doing, source }
            })?;
            bodies.push(Body { loaded, load: self.times.loaded(model, name, begun.elapsed()) });
        }
        let engine = Arc::clone(&self.engine);
        let program = Program { path, engine, functions, layouts, bodies, times: self.times.clone() };
        Ok(Box::new(CoreMlShard { program: Arc::new(program) }))
    }

    fn load_times(&self) -> Vec<LoadTime> {
        self.times.all()
    }
}

/// How each of `states` lies without gaps.
fn layouts(states: &[Port]) -> Result<Vec<Layout>, Failure> {
    states.iter().map(|port| Layout::dense(&port.shape).map_err(|error| of_array(port, error))).collect()
}

fn of_array(port: &Port, source: LayoutError) -> Failure {
    Failure::Layout { name: port.name.clone(), source }
}

/// What a shard and its states share.
struct Program<E: Engine> {
    path: PathBuf,
    engine: Arc<E>,
    functions: Vec<Function>,
    /// How each state lies without gaps.
    layouts: Vec<Layout>,
    /// One for each function.
    bodies: Vec<Body<E>>,
    times: LoadTimes,
}

/// A loaded function.
struct Body<E: Engine> {
    loaded: E::Function,
    /// The number of its load.
    load: usize,
}

impl<E: Engine> Program<E> {
    fn states(&self) -> &[Port] {
        self.functions.first().map_or(&[], |function| &function.signature.states)
    }

    fn find(&self, name: &str) -> Result<(&Port, &Layout), RuntimeError> {
        let found = match self.functions.first() {
            Some(function) => function.signature.state(name)?,
            None => return Err(RuntimeError::Mismatch("it has no functions".to_owned())),
        };
        match (self.states().get(found), self.layouts.get(found)) {
            (Some(port), Some(layout)) => Ok((port, layout)),
            _ => Err(RuntimeError::Mismatch(format!("there is no state `{name}`"))),
        }
    }

    fn failed(&self, doing: &str, source: Failure) -> RuntimeError {
        RuntimeError::CoreMl { doing: format!("{doing} of the shard {}", self.path.display()), source }
    }
}

/// A shard whose functions Core ML has loaded.
struct CoreMlShard<E: Engine> {
    program: Arc<Program<E>>,
}

impl<E: Engine> Shard for CoreMlShard<E> {
    fn functions(&self) -> &[Function] {
        &self.program.functions
    }

    fn new_state(&self) -> Box<dyn State> {
        let states = self.program.bodies.iter().map(|_| None).collect();
        Box::new(CoreMlState { program: Arc::clone(&self.program), states, current: None })
    }

    fn predict(
        &self,
        function: usize,
        inputs: &[Tensor],
        state: &mut dyn State,
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError> {
        let state = (state as &mut dyn Any)
            .downcast_mut::<CoreMlState<E>>()
            .filter(|state| Arc::ptr_eq(&state.program, &self.program))
            .ok_or_else(|| {
                RuntimeError::Mismatch("the state was made by another shard; make one with new_state".into())
            })?;
        let Program { functions, bodies, engine, times, .. } = &*self.program;
        let (Some(Function { name, signature }), Some(body)) =
            (functions.get(function), bodies.get(function))
        else {
            return Err(RuntimeError::Mismatch(format!(
                "it has {} functions, number {function} was asked for",
                functions.len()
            )));
        };
        signature.check(inputs, outputs)?;
        let begun = Instant::now();
        let failed = |source| self.program.failed(&format!("running function `{name}`"), source);
        let at_work = state.switch(function).map_err(failed)?;
        engine.predict(&body.loaded, at_work, inputs, outputs).map_err(failed)?;
        times.passed(body.load, begun.elapsed());
        Ok(())
    }
}

/// The state of one conversation with one shard.
struct CoreMlState<E: Engine> {
    program: Arc<Program<E>>,
    /// One for each function that has been run.
    states: Vec<Option<E::State>>,
    /// The function whose state is this conversation's; those of the others are as old as their latest pass. None at first, when
    /// all is zero.
    current: Option<usize>,
}

impl<E: Engine> CoreMlState<E> {
    /// Makes `function` the current one, by copying what the one before it has. Gives its state.
    fn switch(&mut self, function: usize) -> Result<&mut E::State, Failure> {
        let Self { program, states, current } = self;
        let Program { engine, bodies, .. } = &**program;
        let missing = || Failure::Missing { what: "function", name: function.to_string() };
        let body = bodies.get(function).ok_or_else(missing)?;
        if states.get(function).is_some_and(Option::is_none) {
            states[function] = Some(engine.new_state(&body.loaded)?);
        }
        if let Some(previous) = current.filter(|&previous| previous != function) {
            let pair = states.get_disjoint_mut([previous, function]).map_err(|_| missing())?;
            let [Some(from), Some(into)] = pair else { return Err(missing()) };
            for port in program.states() {
                hand_over(&**engine, port, from, into)?;
            }
        }
        *current = Some(function);
        states.get_mut(function).and_then(Option::as_mut).ok_or_else(missing)
    }
}

/// Copies one state from the buffer of one function to that of another. Their gaps may differ.
fn hand_over<E: Engine>(
    engine: &E,
    port: &Port,
    from: &E::State,
    into: &mut E::State,
) -> Result<(), Failure> {
    engine.look(from, &port.name, &mut |from, from_layout| {
        engine.change(into, &port.name, &mut |into, into_layout| {
            strides::copy(from_layout, from, into_layout, into).map_err(|error| of_array(port, error))
        })
    })
}

impl<E: Engine> State for CoreMlState<E> {
    fn read(&self, name: &str) -> Result<Vec<f16>, RuntimeError> {
        let (port, dense) = self.program.find(name)?;
        let mut values = vec![f16::ZERO; dense.span()];
        let current = self.current.and_then(|current| self.states.get(current)?.as_ref());
        let Some(state) = current else { return Ok(values) };
        let look = &mut |elements: &[f16], layout: &Layout| {
            strides::copy(layout, elements, dense, &mut values).map_err(|error| of_array(port, error))
        };
        let read = self.program.engine.look(state, name, look);
        read.map_err(|source| self.program.failed(&format!("reading the state `{name}`"), source))?;
        Ok(values)
    }

    fn write(&mut self, name: &str, values: &[f16]) -> Result<(), RuntimeError> {
        let program = Arc::clone(&self.program);
        let (port, dense) = program.find(name)?;
        port.check_state(values)?;
        let failed = |source| program.failed(&format!("writing the state `{name}`"), source);
        let state = self.switch(self.current.unwrap_or(0)).map_err(failed)?;
        let change = &mut |elements: &mut [f16], layout: &Layout| {
            strides::copy(dense, values, layout, elements).map_err(|error| of_array(port, error))
        };
        program.engine.change(state, name, change).map_err(failed)
    }
}
