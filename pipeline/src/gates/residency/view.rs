//! A program as rules look at it: operations that compute, with their names resolved to types, constants and producers.

use std::collections::HashMap;

use anepipe_mil::program::{
    Argument, Block, DataType, Dimension, Function, Literal, NamedType, Operation, Program, Value, ValueType,
};

/// The attribute with which a compiled program repeats the ranges of its inputs' shapes.
const FLEXIBLE: &str = "FlexibleShapeInformation";

/// One function.
pub(super) struct View<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Bytes of weights of the whole program.
    pub(super) bytes: u64,
    /// Operations that compute, nested blocks included, in order.
    pub(super) ops: Vec<OpView<'a>>,
    /// How many of them are convolutions.
    pub(super) convs: usize,
    /// Whether this is a slice of an LM head: convolutions, no attention and no states.
    pub(super) is_head: bool,
    function: &'a Function,
    types: HashMap<&'a str, &'a ValueType>,
    constants: HashMap<&'a str, &'a Value>,
    producers: HashMap<&'a str, &'a Operation>,
}

/// One operation.
pub(super) struct OpView<'a> {
    /// The operation.
    pub(super) op: &'a Operation,
    /// Its first result; its operator if it has none.
    pub(super) name: String,
    /// Operator, without the operator set.
    pub(super) kind: &'a str,
}

/// The operator without the operator set that compute plans put before it: `ios18.conv` → `conv`.
pub(super) fn plain_kind(kind: &str) -> &str {
    match kind.split_once('.') {
        Some((set, kind)) if set.starts_with("ios") => kind,
        _ => kind,
    }
}

/// Whether an operation of this kind computes when the program runs.
pub(super) fn computes(kind: &str) -> bool {
    kind != "const" && !kind.starts_with("constexpr_")
}

/// Every function of `program`, whose weights take `bytes`.
pub(super) fn views(program: &Program, bytes: u64) -> Vec<View<'_>> {
    program.functions.iter().map(|(name, function)| View::new(name, function, bytes)).collect()
}

impl<'a> View<'a> {
    fn new(name: &'a str, function: &'a Function, bytes: u64) -> Self {
        let mut view = Self {
            name,
            bytes,
            ops: Vec::new(),
            convs: 0,
            is_head: false,
            function,
            types: HashMap::new(),
            constants: HashMap::new(),
            producers: HashMap::new(),
        };
        view.define(&function.inputs);
        view.read(&function.block);
        view.convs = view.ops.iter().filter(|op| op.kind == "conv").count();
        let attends = |op: &OpView<'_>| matches!(op.kind, "softmax" | "scaled_dot_product_attention");
        view.is_head = view.convs > 0 && view.states().next().is_none() && !view.ops.iter().any(attends);
        view
    }

    fn define(&mut self, names: &'a [NamedType]) {
        self.types.extend(names.iter().map(|named| (named.name.as_str(), &named.ty)));
    }

    fn read(&mut self, block: &'a Block) {
        self.define(&block.inputs);
        for op in &block.operations {
            self.define(&op.outputs);
            for output in &op.outputs {
                self.producers.insert(&output.name, op);
                if let Some(value) = op.constant() {
                    self.constants.insert(&output.name, value);
                }
            }
            let kind = plain_kind(&op.kind);
            if computes(kind) {
                self.ops.push(OpView { op, name: name_of(op), kind });
            }
            for block in &op.blocks {
                self.read(block);
            }
        }
    }

    /// The function's states.
    pub(super) fn states(&self) -> impl Iterator<Item = &'a NamedType> {
        self.function.inputs.iter().filter(|input| matches!(input.ty, ValueType::State(_)))
    }

    /// The inputs whose shapes are not fixed; without a name where only the function's attribute says so.
    pub(super) fn flexible_inputs(&self) -> Vec<&'a str> {
        let unknown = |input: &&NamedType| {
            matches!(&input.ty, ValueType::Tensor { shape, .. }
                if shape.iter().any(|extent| matches!(extent, Dimension::Unknown { .. })))
        };
        let mut names: Vec<&str> =
            self.function.inputs.iter().filter(unknown).map(|input| input.name.as_str()).collect();
        if names.is_empty() && self.function.attributes.contains_key(FLEXIBLE) {
            names.push("an input");
        }
        names
    }

    /// The type of an argument.
    pub(super) fn type_of(&self, argument: &'a Argument) -> Option<&'a ValueType> {
        match argument {
            Argument::Value(value) => Some(&value.ty),
            Argument::Name(name) => self.types.get(name.as_str()).copied(),
        }
    }

    /// The constant an argument is.
    pub(super) fn constant(&self, argument: &'a Argument) -> Option<&'a Value> {
        match argument {
            Argument::Value(value) => Some(value),
            Argument::Name(name) => self.constants.get(name.as_str()).copied(),
        }
    }

    /// The one argument of a parameter.
    pub(super) fn argument(op: &'a Operation, key: &str) -> Option<&'a Argument> {
        match op.inputs.get(key)?.as_slice() {
            [argument] => Some(argument),
            _ => None,
        }
    }

    /// The shape of a parameter's one argument, if it is fixed.
    pub(super) fn shape(&self, op: &'a Operation, key: &str) -> Option<Vec<u64>> {
        self.type_of(Self::argument(op, key)?)?.fixed_shape()
    }

    /// The operation that defines the one argument of a parameter.
    pub(super) fn producer(&self, op: &'a Operation, key: &str) -> Option<&'a Operation> {
        self.producers.get(op.variable(key)?).copied()
    }

    /// Types of what an operation computes on and gives: results, and arguments that are no constants.
    pub(super) fn computed_types(&self, op: &'a Operation) -> Vec<&'a ValueType> {
        let outputs = op.outputs.iter().map(|output| &output.ty);
        let arguments = op
            .inputs
            .values()
            .flatten()
            .filter(|argument| matches!(argument, Argument::Name(name) if !self.is_constant_name(name)));
        outputs.chain(arguments.filter_map(|argument| self.type_of(argument))).collect()
    }

    fn is_constant_name(&self, name: &str) -> bool {
        self.producers.get(name).is_some_and(|producer| !computes(plain_kind(&producer.kind)))
    }

    /// Whether an argument is a constant with an infinity among its elements, as far as they stand in the program.
    pub(super) fn has_infinity(&self, argument: &'a Argument) -> bool {
        let literal = self.constant(argument).map(|value| &value.literal);
        matches!(literal, Some(Literal::Float(elements)) if elements.iter().any(|element| element.is_infinite()))
    }
}

/// Element type of a tensor; a state is none.
pub(super) fn dtype(ty: &ValueType) -> Option<DataType> {
    match ty {
        ValueType::Tensor { dtype, .. } => Some(*dtype),
        _ => None,
    }
}

/// The name by which compute plans know an operation: that of its first result, or its operator where it has none.
fn name_of(op: &Operation) -> String {
    op.outputs.first().map_or_else(|| plain_kind(&op.kind).to_owned(), |output| output.name.clone())
}
