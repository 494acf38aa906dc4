//! From a function of an ML Program to a [`Graph`].

use std::collections::HashMap;
use std::sync::Arc;

use anepipe_mil::modelc::ModelC;
use anepipe_mil::program::{self, DataType, Function, Literal, Operation, ValueType};

use super::constant::{Constant, Int8, Mapped, cast};
use super::parameters::Call;
use super::{Graph, Node, Op, ProgramError, StateId, StateShape, Storage, Value, ValueId, rules, shape};
use crate::portable::arith::half::{round, round_f64};

/// What a name of the program stands for.
#[derive(Clone)]
pub(super) enum Binding<'a> {
    /// A tensor.
    Value(ValueId),
    /// A constant: a parameter, or elements.
    Constant(&'a program::Value),
    /// A quantized matrix.
    Quantized(Quantized),
    /// A state.
    State(StateId),
}

/// An int8 tensor with a scale for each index of its first axis, or one for all.
#[derive(Clone)]
pub(super) struct Quantized {
    pub(super) shape: Vec<usize>,
    pub(super) elements: Int8,
    pub(super) scales: Constant,
}

/// A graph in the making.
pub(super) struct Builder<'a> {
    pub(super) model: &'a Arc<ModelC>,
    pub(super) names: HashMap<&'a str, Binding<'a>>,
    /// Constants that became tensors, by name.
    materialized: HashMap<&'a str, ValueId>,
    pub(super) graph: Graph,
}

/// The graph of the function called `function` in `model`, or of its default: `main`, or the only one.
pub fn lower(model: &Arc<ModelC>, function: Option<&str>) -> Result<Graph, ProgramError> {
    let (name, function) = choose(model.program(), function)?;
    let mut builder = Builder {
        model,
        names: HashMap::new(),
        materialized: HashMap::new(),
        graph: Graph {
            function: name.to_owned(),
            values: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            states: Vec::new(),
            nodes: Vec::new(),
        },
    };
    builder.parameters(function)?;
    for operation in &function.block.operations {
        builder.operation(operation)?;
    }
    builder.results(function)?;
    Ok(builder.graph)
}

fn choose<'a>(
    program: &'a program::Program,
    wanted: Option<&str>,
) -> Result<(&'a str, &'a Function), ProgramError> {
    let functions = &program.functions;
    let found = match wanted {
        Some(name) => functions.get_key_value(name),
        None if functions.len() == 1 => functions.first_key_value(),
        None => functions.get_key_value("main"),
    };
    found.map(|(name, function)| (name.as_str(), function)).ok_or_else(|| ProgramError::Function {
        wanted: wanted.map_or_else(|| "`main`".to_owned(), |name| format!("`{name}`")),
        available: functions.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    })
}

impl<'a> Builder<'a> {
    fn parameters(&mut self, function: &'a Function) -> Result<(), ProgramError> {
        for input in &function.inputs {
            let state = matches!(input.ty, ValueType::State(_));
            let role = if state { "state" } else { "input" };
            let shape = self.port(role, &input.name, input.ty.dtype(), input.ty.fixed_shape())?;
            let binding = if state {
                self.graph.states.push(StateShape { name: input.name.clone(), shape });
                Binding::State(StateId(self.graph.states.len() - 1))
            } else {
                let id = self.value(input.name.clone(), Storage::Half, shape, None);
                self.graph.inputs.push(id);
                Binding::Value(id)
            };
            self.names.insert(&input.name, binding);
        }
        Ok(())
    }

    fn port(
        &self,
        role: &'static str,
        name: &str,
        dtype: Option<DataType>,
        extents: Option<Vec<u64>>,
    ) -> Result<Vec<usize>, ProgramError> {
        let refuse = |reason: String| ProgramError::Port {
            function: self.graph.function.clone(),
            role,
            name: name.to_owned(),
            reason,
        };
        match dtype {
            Some(DataType::Float16) => {}
            Some(other) => {
                return Err(refuse(format!(
                    "it is {other}; only fp16 crosses the border, convert the model with fp16 ports"
                )));
            }
            None => return Err(refuse("it is no tensor".to_owned())),
        }
        let extents =
            extents.ok_or_else(|| refuse("its shape is flexible; give the model fixed shapes".to_owned()))?;
        fixed(&extents).ok_or_else(|| {
            refuse(format!("its shape {extents:?} has more than {} elements", shape::MAX_ELEMENTS))
        })
    }

    fn operation(&mut self, operation: &'a Operation) -> Result<(), ProgramError> {
        if operation.kind == "const" {
            let value =
                operation.attributes.get("val").or_else(|| match operation.inputs.get("val")?.first()? {
                    program::Argument::Value(value) => Some(value),
                    program::Argument::Name(_) => None,
                });
            let (Some(output), Some(value)) = (operation.outputs.first(), value) else {
                return Err(Call::new(self, operation).fail("a constant needs a name and a value"));
            };
            self.names.insert(&output.name, Binding::Constant(value));
            return Ok(());
        }
        rules::apply(Call::new(self, operation))
    }

    fn results(&mut self, function: &'a Function) -> Result<(), ProgramError> {
        for name in &function.block.outputs {
            let refuse = |builder: &Self, reason: &str| ProgramError::Port {
                function: builder.graph.function.clone(),
                role: "output",
                name: name.clone(),
                reason: reason.to_owned(),
            };
            let id = match self.names.get(name.as_str()) {
                Some(Binding::Value(id)) => *id,
                Some(_) => return Err(refuse(self, "it is a constant or a state, not a result")),
                None => return Err(refuse(self, "no operation computes it")),
            };
            if self.graph.value(id).storage != Storage::Half {
                return Err(refuse(
                    self,
                    "it is fp32; only fp16 crosses the border, cast it to fp16 in the model",
                ));
            }
            self.graph.outputs.push(id);
        }
        Ok(())
    }

    pub(super) fn value(
        &mut self,
        name: String,
        storage: Storage,
        shape: Vec<usize>,
        constant: Option<Constant>,
    ) -> ValueId {
        self.graph.values.push(Value { name, storage, shape, constant });
        ValueId(self.graph.values.len() - 1)
    }

    pub(super) fn node(&mut self, op: Op, output: Option<ValueId>) {
        self.graph.nodes.push(Node { op, output });
    }

    /// The tensor a name stands for; constants and quantized tensors become one when they are first used as such.
    pub(super) fn named_tensor(&mut self, name: &'a str) -> Result<ValueId, String> {
        if let Some(&id) = self.materialized.get(name) {
            return Ok(id);
        }
        let id = match self.names.get(name).cloned() {
            None => return Err(format!("`{name}` is not defined before it is used")),
            Some(Binding::State(_)) => return Err(format!("`{name}` is a state; it has to be read first")),
            Some(Binding::Value(id)) => return Ok(id),
            Some(Binding::Constant(value)) => self.constant_tensor(name, value)?,
            Some(Binding::Quantized(tensor)) => {
                let per_row =
                    tensor.elements.elements().len() / tensor.shape.first().copied().unwrap_or(1).max(1);
                let scales = tensor.scales.single();
                let elements = tensor.elements.elements().iter().enumerate().map(|(index, &q)| {
                    let scale = if scales.len() == 1 { scales[0] } else { scales[index / per_row.max(1)] };
                    round(f32::from(q) * scale)
                });
                let constant = Constant::Half(elements.collect());
                self.value(name.to_owned(), Storage::Half, tensor.shape, Some(constant))
            }
        };
        self.materialized.insert(name, id);
        Ok(id)
    }

    /// `value` as a tensor.
    pub(super) fn constant_tensor(&mut self, name: &str, value: &program::Value) -> Result<ValueId, String> {
        let extents =
            value.ty.fixed_shape().ok_or_else(|| format!("`{name}` is a constant without a shape"))?;
        let shape = fixed(&extents).ok_or_else(|| format!("`{name}` has too many elements"))?;
        let (storage, constant) = elements(self.model, value)
            .ok_or_else(|| format!("`{name}` is {}; only fp16 and fp32 are computed with", value.ty))?;
        Ok(self.value(name.to_owned(), storage, shape, Some(constant)))
    }
}

/// Extents as this machine counts, if their product is within bounds.
pub(super) fn fixed(extents: &[u64]) -> Option<Vec<usize>> {
    let shape: Vec<usize> =
        extents.iter().map(|&extent| usize::try_from(extent).ok()).collect::<Option<_>>()?;
    shape::count(&shape)?;
    Some(shape)
}

/// The elements of a floating-point constant.
pub(super) fn elements(model: &Arc<ModelC>, value: &program::Value) -> Option<(Storage, Constant)> {
    match (value.ty.dtype()?, &value.literal) {
        (DataType::Float16, Literal::Float(elements)) => {
            Some((Storage::Half, Constant::Half(elements.iter().copied().map(round_f64).collect())))
        }
        (DataType::Float32, Literal::Float(elements)) => {
            Some((Storage::Single, Constant::Single(elements.iter().map(|&x| x as f32).collect())))
        }
        (DataType::Float16, Literal::Blob { .. }) => {
            Some((Storage::Half, Constant::Mapped(Mapped::new(model, value)?)))
        }
        (DataType::Float32, Literal::Blob { .. }) => {
            let mapped = Mapped::new(model, value)?;
            Some((Storage::Single, Constant::Single(cast::<f32>(mapped.bytes()).into())))
        }
        _ => None,
    }
}
