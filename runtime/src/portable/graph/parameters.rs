//! The parameters of one operation, by name and type.

use std::sync::Arc;

use anepipe_mil::modelc::ModelC;
use anepipe_mil::program::{self, Argument, DataType, Literal, Operation};

use super::lower::{Binding, Builder, elements, fixed};
use super::{Constant, Node, Op, ProgramError, StateId, Storage, ValueId};

/// One operation on its way into a graph.
pub(super) struct Call<'a, 'b> {
    builder: &'b mut Builder<'a>,
    operation: &'a Operation,
}

impl<'a, 'b> Call<'a, 'b> {
    pub(super) fn new(builder: &'b mut Builder<'a>, operation: &'a Operation) -> Self {
        Self { builder, operation }
    }

    /// The operator.
    pub(super) fn kind(&self) -> &'a str {
        &self.operation.kind
    }

    pub(super) fn model(&self) -> &'a Arc<ModelC> {
        self.builder.model
    }

    pub(super) fn builder(&mut self) -> &mut Builder<'a> {
        self.builder
    }

    /// An error of this operation.
    pub(super) fn fail(&self, reason: impl Into<String>) -> ProgramError {
        ProgramError::Operation {
            function: self.builder.graph.function.clone(),
            kind: self.operation.kind.clone(),
            variable: self.variable(),
            reason: reason.into(),
        }
    }

    /// The error of an operation that is not known.
    pub(super) fn unknown(&self) -> ProgramError {
        ProgramError::UnknownOperation {
            function: self.builder.graph.function.clone(),
            kind: self.operation.kind.clone(),
            variable: self.variable(),
        }
    }

    fn variable(&self) -> String {
        let names: Vec<&str> = self.operation.outputs.iter().map(|output| output.name.as_str()).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    }

    fn arguments(&self, name: &str) -> &'a [Argument] {
        self.operation.inputs.get(name).map_or(&[], Vec::as_slice)
    }

    /// The constant bound to `name`, as input or attribute.
    pub(super) fn constant(&self, name: &str) -> Result<Option<&'a program::Value>, ProgramError> {
        match self.arguments(name) {
            [] => Ok(self.operation.attributes.get(name)),
            [Argument::Value(value)] => Ok(Some(value)),
            [Argument::Name(variable)] => match self.builder.names.get(variable.as_str()) {
                Some(Binding::Constant(value)) => Ok(Some(value)),
                Some(_) => Err(self.fail(format!("`{name}` = `{variable}` has to be a constant"))),
                None => Err(self.fail(format!("`{name}` = `{variable}` is not defined before it is used"))),
            },
            [_, _, ..] => Err(self.fail(format!("`{name}` takes one argument"))),
        }
    }

    fn typed<T>(
        &self,
        name: &str,
        kind: &str,
        read: impl Fn(&'a program::Value) -> Option<T>,
    ) -> Result<Option<T>, ProgramError> {
        match self.constant(name)? {
            None => Ok(None),
            Some(value) => {
                let wrong = || self.fail(format!("`{name}` is {}, not {kind}", value.ty));
                read(value).map(Some).ok_or_else(wrong)
            }
        }
    }

    /// A list of integers; `None` if it is absent.
    pub(super) fn integers(&self, name: &str) -> Result<Option<&'a [i64]>, ProgramError> {
        self.typed(name, "integers", program::Value::as_ints)
    }

    /// A list of truth values; `None` if it is absent.
    pub(super) fn flags(&self, name: &str) -> Result<Option<&'a [bool]>, ProgramError> {
        self.typed(name, "truth values", |value| match &value.literal {
            Literal::Bool(flags) => Some(flags.as_slice()),
            _ => None,
        })
    }

    /// An integer, which may also be a list of one.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, ProgramError> {
        self.typed(name, "an integer", |value| match value.as_ints()? {
            [one] => Some(*one),
            _ => None,
        })
    }

    /// A truth value.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, ProgramError> {
        Ok(self.typed(name, "a truth value", program::Value::as_bool)?.unwrap_or(default))
    }

    /// A number.
    pub(super) fn number(&self, name: &str, default: f32) -> Result<f32, ProgramError> {
        let number = self.typed(name, "a number", program::Value::as_float)?;
        Ok(number.map_or(default, |number| number as f32))
    }

    /// A word.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, ProgramError> {
        self.typed(name, "text", program::Value::as_str)
    }

    /// Floating-point elements with their shape; `None` if they are absent.
    pub(super) fn numbers(&self, name: &str) -> Result<Option<(Vec<usize>, Constant)>, ProgramError> {
        self.typed(name, "a tensor of fp16 or fp32", |value| {
            let shape = fixed(&value.ty.fixed_shape()?)?;
            Some((shape, elements(self.builder.model, value)?.1))
        })
    }

    /// A tensor that has to be there.
    pub(super) fn tensor(&mut self, name: &str) -> Result<ValueId, ProgramError> {
        self.optional_tensor(name)?.ok_or_else(|| self.fail(format!("`{name}` is missing")))
    }

    /// A tensor that may be absent.
    pub(super) fn optional_tensor(&mut self, name: &str) -> Result<Option<ValueId>, ProgramError> {
        match self.tensors(name)?.as_slice() {
            [] => Ok(None),
            [id] => Ok(Some(*id)),
            _ => Err(self.fail(format!("`{name}` takes one argument"))),
        }
    }

    /// All tensors bound to `name`.
    pub(super) fn tensors(&mut self, name: &str) -> Result<Vec<ValueId>, ProgramError> {
        let arguments = self.arguments(name);
        arguments
            .iter()
            .map(|argument| {
                let id = match argument {
                    Argument::Name(variable) => self.builder.named_tensor(variable),
                    Argument::Value(value) => self.builder.constant_tensor(name, value),
                };
                id.map_err(|reason| self.fail(reason))
            })
            .collect()
    }

    /// What the argument `name` is bound to, if it is a name.
    pub(super) fn binding(&self, name: &str) -> Option<&Binding<'a>> {
        match self.arguments(name) {
            [Argument::Name(variable)] => self.builder.names.get(variable.as_str()),
            _ => None,
        }
    }

    /// The state bound to `name`.
    pub(super) fn state(&self, name: &str) -> Result<StateId, ProgramError> {
        match self.binding(name) {
            Some(Binding::State(state)) => Ok(*state),
            _ => Err(self.fail(format!("`{name}` has to be a state"))),
        }
    }

    /// The shape of a tensor.
    pub(super) fn shape(&self, id: ValueId) -> &[usize] {
        self.builder.graph.shape(id)
    }

    /// The storage of a tensor.
    pub(super) fn storage(&self, id: ValueId) -> Storage {
        self.builder.graph.value(id).storage
    }

    /// The storage that all of `ids` have.
    pub(super) fn common_storage(&self, ids: &[ValueId]) -> Result<Storage, ProgramError> {
        let mut storages = ids.iter().map(|&id| self.storage(id));
        let first = storages.next().unwrap_or(Storage::Half);
        if storages.all(|storage| storage == first) {
            return Ok(first);
        }
        Err(self.fail("fp16 and fp32 operands are mixed; cast one of them"))
    }

    /// The shape the program gives output `index`.
    pub(super) fn declared_shape(&self, index: usize) -> Result<Vec<usize>, ProgramError> {
        let output = self.operation.outputs.get(index);
        let output = output.ok_or_else(|| self.fail(format!("output {index} is missing")))?;
        let extents = output.ty.fixed_shape();
        let extents = extents.ok_or_else(|| self.fail(format!("`{}` has no fixed shape", output.name)))?;
        fixed(&extents).ok_or_else(|| self.fail(format!("`{}` has too many elements", output.name)))
    }

    /// Adds the operation's only result.
    pub(super) fn emit(&mut self, op: Op, storage: Storage, shape: Vec<usize>) -> Result<(), ProgramError> {
        if self.operation.outputs.len() != 1 {
            return Err(self.fail(format!("it has one result, not {}", self.operation.outputs.len())));
        }
        self.emit_at(0, op, storage, shape)
    }

    /// Adds result `index`, after comparing it with what the program says of it.
    pub(super) fn emit_at(
        &mut self,
        index: usize,
        op: Op,
        storage: Storage,
        shape: Vec<usize>,
    ) -> Result<(), ProgramError> {
        let declared = self.declared_shape(index)?;
        let Some(output) = self.operation.outputs.get(index) else {
            return Err(self.fail(format!("output {index} is missing")));
        };
        let dtype = match storage {
            Storage::Half => DataType::Float16,
            Storage::Single => DataType::Float32,
        };
        if declared != shape || output.ty.dtype() != Some(dtype) {
            return Err(
                self.fail(format!("the program says the result is {}; it is {dtype} {shape:?}", output.ty))
            );
        }
        let id = self.builder.value(output.name.clone(), storage, shape, None);
        self.builder.graph.nodes.push(Node { op, output: Some(id) });
        self.builder.names.insert(&output.name, Binding::Value(id));
        Ok(())
    }

    /// Gives the operation's result the meaning `binding` without computing anything.
    pub(super) fn bind(&mut self, binding: Binding<'a>) -> Result<(), ProgramError> {
        let [output] = self.operation.outputs.as_slice() else {
            return Err(self.fail("it has one result"));
        };
        self.builder.names.insert(&output.name, binding);
        Ok(())
    }
}
