//! The functions of a compiled model, read from its `model.mil`.
//!
//! Core ML describes inputs and outputs by name alone; the program has them in order. Operations are not looked at: whether it can run
//! them is for Core ML to say.

use std::path::Path;

use anepipe_mil::modelc::ModelC;
use anepipe_mil::program::{self, DataType, NamedType, ValueType};

use crate::device::{Function, Port, Signature};
use crate::portable::ProgramError;

/// Every function of the model at `path`, by name ascending; at least one, all with the same states.
pub fn read(path: &Path) -> Result<Vec<Function>, ProgramError> {
    let model = ModelC::open(path).map_err(|error| ProgramError::Model(error.to_string()))?;
    let mut functions = Vec::<Function>::new();
    for (name, function) in &model.program().functions {
        let signature = signature(name, function)?;
        if let Some(other) = functions.first().filter(|other| other.signature.states != signature.states) {
            return Err(ProgramError::States { function: name.clone(), other: other.name.clone() });
        }
        functions.push(Function { name: name.clone(), signature });
    }
    if functions.is_empty() {
        return Err(ProgramError::Model("its program has no function; convert it again".to_owned()));
    }
    Ok(functions)
}

/// What Core ML is told of function number `index`: its name, or nothing where it is the only one. A program with one function is
/// loaded as models always were, by systems that have never heard of functions too.
pub fn name_to_load(functions: &[Function], index: usize) -> Option<&str> {
    let function = functions.get(index).filter(|_| functions.len() > 1);
    function.map(|function| function.name.as_str())
}

fn signature(name: &str, function: &program::Function) -> Result<Signature, ProgramError> {
    let port = |role, variable: &NamedType| port(name, role, variable);
    let is_state = |input: &&NamedType| matches!(input.ty, ValueType::State(_));
    let outputs = function.block.outputs.iter().map(|output| {
        let results = function.block.operations.iter().rev().flat_map(|operation| &operation.outputs);
        match results.chain(&function.inputs).find(|variable| variable.name == *output) {
            Some(variable) => port("output", variable),
            None => Err(refuse(name, "output", output, "no operation gives it; convert the model again")),
        }
    });
    Ok(Signature {
        inputs: function
            .inputs
            .iter()
            .filter(|input| !is_state(input))
            .map(|input| port("input", input))
            .collect::<Result<_, _>>()?,
        outputs: outputs.collect::<Result<_, _>>()?,
        states: function
            .inputs
            .iter()
            .filter(is_state)
            .map(|input| port("state", input))
            .collect::<Result<_, _>>()?,
    })
}

fn port(function: &str, role: &'static str, variable: &NamedType) -> Result<Port, ProgramError> {
    let NamedType { name, ty } = variable;
    if ty.dtype() != Some(DataType::Float16) {
        return Err(refuse(function, role, name, &format!("it is {ty}; only fp16 tensors cross the border")));
    }
    let shape = ty.fixed_shape().and_then(|extents| {
        let shape: Option<Vec<usize>> =
            extents.into_iter().map(|extent| usize::try_from(extent).ok()).collect();
        shape.filter(|shape| shape.iter().try_fold(1_usize, |all, &extent| all.checked_mul(extent)).is_some())
    });
    match shape {
        Some(shape) => Ok(Port { name: name.clone(), shape }),
        None => Err(refuse(function, role, name, &format!("it is {ty}; its shape must be fixed"))),
    }
}

fn refuse(function: &str, role: &'static str, name: &str, reason: &str) -> ProgramError {
    ProgramError::Port {
        function: function.to_owned(),
        role,
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}
