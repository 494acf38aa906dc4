//! Operators along axes.

use crate::portable::graph::parameters::Call;
use crate::portable::graph::{Op, ProgramError, Reduction, ValueId, shape};

pub(super) fn softmax(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let x = call.tensor("x")?;
    let (storage, shape) = (call.storage(x), call.shape(x).to_vec());
    let axis = call.integer("axis")?.unwrap_or(-1);
    let axis = shape::axis(axis, shape.len())
        .ok_or_else(|| call.fail(format!("axis {axis} is outside rank {}", shape.len())))?;
    call.emit(Op::Softmax { x, axis }, storage, shape)
}

pub(super) fn reduce(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let kind = match call.kind() {
        "reduce_sum" => Reduction::Sum,
        "reduce_mean" => Reduction::Mean,
        "reduce_sum_square" => Reduction::SumSquare,
        "reduce_max" => Reduction::Max,
        _ => Reduction::Min,
    };
    let x = call.tensor("x")?;
    let axes = axes(&call, x)?;
    let keep = call.flag("keep_dims", false)?;
    let shape = call.shape(x).iter().enumerate();
    let shape = shape.filter_map(|(axis, &extent)| match (axes.contains(&axis), keep) {
        (false, _) => Some(extent),
        (true, true) => Some(1),
        (true, false) => None,
    });
    let (storage, shape) = (call.storage(x), shape.collect());
    call.emit(Op::Reduce { kind, x, axes }, storage, shape)
}

pub(super) fn layer_norm(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let x = call.tensor("x")?;
    let axes = axes(&call, x)?;
    let (gamma, beta) = (call.optional_tensor("gamma")?, call.optional_tensor("beta")?);
    let normalized: Vec<usize> = axes.iter().map(|&axis| call.shape(x)[axis]).collect();
    for weight in [gamma, beta].into_iter().flatten() {
        call.common_storage(&[x, weight])?;
        if call.shape(weight) != normalized {
            let found = call.shape(weight);
            return Err(call.fail(format!(
                "gamma and beta have the shape {found:?}, the normalized axes {normalized:?}"
            )));
        }
    }
    let epsilon = call.number("epsilon", 1e-5)?;
    let (storage, shape) = (call.storage(x), call.shape(x).to_vec());
    call.emit(Op::LayerNorm { x, axes, gamma, beta, epsilon }, storage, shape)
}

/// The axes of a reduction, ascending; all of them if none are named.
fn axes(call: &Call<'_, '_>, x: ValueId) -> Result<Vec<usize>, ProgramError> {
    let rank = call.shape(x).len();
    let Some(named) = call.integers("axes")? else { return Ok((0..rank).collect()) };
    let mut axes: Vec<usize> = named
        .iter()
        .map(|&axis| {
            shape::axis(axis, rank).ok_or_else(|| call.fail(format!("axis {axis} is outside rank {rank}")))
        })
        .collect::<Result<_, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}
