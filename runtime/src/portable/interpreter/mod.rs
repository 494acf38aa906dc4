//! The plain interpreter: one operation after the other, one scalar at a time, by the definitions in
//! [`crate::portable::arith`].
//!
//! It is the judge of everything faster. Nothing here is clever, so that it can be checked by reading.

mod array;
mod elementwise;
mod linear;
mod movement;
mod reduction;

use self::array::Array;
use super::cache::Cache;
use super::graph::{Constant, Graph, Op, Storage, ValueId};
use super::observe::Watch;
use crate::tensor::Tensor;

/// Runs `graph` once, watched or not. Inputs, states and outputs stand in the graph's order and have its shapes.
pub(super) fn run(
    graph: &Graph,
    inputs: &[Tensor],
    states: &mut [Cache],
    outputs: &mut [Tensor],
    watch: Option<Watch<'_>>,
) {
    let last_uses = last_uses(graph);
    let mut values: Vec<Option<Array>> = graph
        .values
        .iter()
        .map(|value| match value.constant.as_ref()? {
            constant @ (Constant::Half(_) | Constant::Mapped(_)) => {
                Some(Array::half(value.shape.clone(), constant.half().into_owned()))
            }
            constant @ Constant::Single(_) => {
                Some(Array::single(value.shape.clone(), constant.single().into_owned()))
            }
        })
        .collect();
    for (&id, input) in graph.inputs.iter().zip(inputs) {
        values[id.0] = Some(Array::half(graph.shape(id).to_vec(), input.data().to_vec()));
    }
    for (step, node) in graph.nodes.iter().enumerate() {
        let get = |id: ValueId| values[id.0].as_ref().expect("nodes use only what stands before them");
        match (&node.op, node.output) {
            (Op::WriteState(state, data), _) => states[state.0].replace(get(*data).as_half()),
            (op, Some(output)) => {
                let value = graph.value(output);
                let result = apply(op, &value.shape, value.storage, states, get);
                if let Some(watch) = watch {
                    if let Op::Convolution(convolution) = op {
                        watch.input(step, get(convolution.x).as_half());
                    }
                    watch.output(step, result.as_half());
                }
                values[output.0] = Some(result);
            }
            (_, None) => {}
        }
        // A shard of many layers would otherwise hold every intermediate result at once.
        for id in node.op.operands() {
            if last_uses[id.0] == Some(step) {
                values[id.0] = None;
            }
        }
    }
    for (&id, output) in graph.outputs.iter().zip(outputs) {
        if let Some(value) = &values[id.0] {
            output.data_mut().copy_from_slice(value.as_half());
        }
    }
}

fn apply<'a>(
    op: &Op,
    shape: &[usize],
    storage: Storage,
    states: &[Cache],
    get: impl Fn(ValueId) -> &'a Array + Copy,
) -> Array {
    match op {
        Op::Convolution(convolution) => linear::convolution(convolution, get(convolution.x), shape),
        Op::Matmul { x, y, transpose_x, transpose_y } => {
            linear::matmul(get(*x), get(*y), *transpose_x, *transpose_y, shape, storage)
        }
        Op::Binary(operator, x, y) => elementwise::binary(*operator, get(*x), get(*y), shape, storage),
        Op::Unary(operator, x) => elementwise::unary(*operator, get(*x), storage),
        Op::Cast(x) => movement::cast(get(*x), storage),
        Op::Softmax { x, axis } => reduction::softmax(get(*x), *axis, storage),
        Op::Reduce { kind, x, axes } => reduction::reduce(*kind, get(*x), axes, shape, storage),
        Op::LayerNorm { x, axes, gamma, beta, epsilon } => {
            reduction::layer_norm(get(*x), axes, gamma.map(get), beta.map(get), *epsilon, storage)
        }
        Op::Reshape(x) => get(*x).reshaped(shape),
        Op::Transpose { x, perm } => movement::transpose(get(*x), perm, shape, storage),
        Op::Slice { x, begin, step, extents } => {
            movement::slice(get(*x), begin, step, extents, storage).reshaped(shape)
        }
        Op::SliceUpdate { x, update, begin, step, extents } => {
            movement::slice_update(get(*x), get(*update), begin, step, extents, storage)
        }
        Op::Concat { values, axis } => {
            let arrays: Vec<&Array> = values.iter().map(|&value| get(value)).collect();
            movement::concat(&arrays, *axis, shape, storage)
        }
        Op::ReadState(state) => Array::half(shape.to_vec(), states[state.0].elements().to_vec()),
        Op::WriteState(..) => unreachable!("writes have no result and are carried out by `run`"),
    }
}

/// The last node that uses each value; `None` for values that must stay.
fn last_uses(graph: &Graph) -> Vec<Option<usize>> {
    let mut uses = vec![None; graph.values.len()];
    for (step, node) in graph.nodes.iter().enumerate() {
        for id in node.op.operands() {
            uses[id.0] = Some(step);
        }
    }
    for &id in &graph.outputs {
        uses[id.0] = None;
    }
    uses
}
