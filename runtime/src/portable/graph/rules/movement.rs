//! Operators that only move elements.

use crate::portable::graph::parameters::Call;
use crate::portable::graph::{Op, ProgramError, ValueId, shape};

/// `reshape`, `squeeze`, `expand_dims`, `identity`: the declared shape says it all.
pub(super) fn reshape(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let x = call.tensor("x")?;
    let shape = call.declared_shape(0)?;
    let (from, to) = (shape::count(call.shape(x)), shape::count(&shape));
    if from != to {
        return Err(
            call.fail(format!("{:?} and {shape:?} have different numbers of elements", call.shape(x)))
        );
    }
    let storage = call.storage(x);
    call.emit(Op::Reshape(x), storage, shape)
}

pub(super) fn transpose(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let x = call.tensor("x")?;
    let from = call.shape(x).to_vec();
    let perm: Option<Vec<usize>> = call
        .integers("perm")?
        .and_then(|perm| perm.iter().map(|&axis| shape::axis(axis, from.len())).collect());
    let perm = perm
        .filter(|perm| perm.len() == from.len() && (0..from.len()).all(|axis| perm.contains(&axis)))
        .ok_or_else(|| call.fail(format!("`perm` is no permutation of the axes of {from:?}")))?;
    let shape = perm.iter().map(|&axis| from[axis]).collect();
    let storage = call.storage(x);
    call.emit(Op::Transpose { x, perm }, storage, shape)
}

/// A slice's place in a tensor.
struct Window {
    begin: Vec<usize>,
    step: Vec<usize>,
    extents: Vec<usize>,
    /// The extents without the axes that are dropped.
    shape: Vec<usize>,
}

pub(super) fn slice(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let x = call.tensor("x")?;
    let window = window(&call, x)?;
    let storage = call.storage(x);
    let Window { begin, step, extents, shape } = window;
    call.emit(Op::Slice { x, begin, step, extents }, storage, shape)
}

pub(super) fn slice_update(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let (x, update) = (call.tensor("x")?, call.tensor("update")?);
    let window = window(&call, x)?;
    let storage = call.common_storage(&[x, update])?;
    if call.shape(update) != window.shape {
        return Err(call.fail(format!(
            "the update {:?} does not fit the slice {:?}",
            call.shape(update),
            window.shape
        )));
    }
    let shape = call.shape(x).to_vec();
    let Window { begin, step, extents, .. } = window;
    call.emit(Op::SliceUpdate { x, update, begin, step, extents }, storage, shape)
}

fn window(call: &Call<'_, '_>, x: ValueId) -> Result<Window, ProgramError> {
    let from = call.shape(x);
    let rank = from.len();
    let list = |name: &str| match call.integers(name)? {
        Some(values) if values.len() != rank => Err(call.fail(format!("`{name}` needs {rank} entries"))),
        values => Ok(values),
    };
    let mask = |name: &str| match call.flags(name)? {
        Some(values) if values.len() != rank => Err(call.fail(format!("`{name}` needs {rank} entries"))),
        values => Ok(values),
    };
    let (begins, ends, strides) = (list("begin")?, list("end")?, list("stride")?);
    let (open_begin, open_end, squeeze) = (mask("begin_mask")?, mask("end_mask")?, mask("squeeze_mask")?);
    let set = |mask: Option<&[bool]>, axis: usize| mask.is_some_and(|mask| mask[axis]);
    let mut window = Window { begin: vec![], step: vec![], extents: vec![], shape: vec![] };
    for (axis, &extent) in from.iter().enumerate() {
        let size = extent as i64;
        let place = |index: i64| if index < 0 { index.saturating_add(size) } else { index }.clamp(0, size);
        let step = strides.map_or(1, |strides| strides[axis]);
        if step < 1 {
            return Err(
                call.fail(format!("stride {step} on axis {axis}; only positive strides are supported"))
            );
        }
        let begin = if set(open_begin, axis) { 0 } else { place(begins.map_or(0, |begins| begins[axis])) };
        let single = set(squeeze, axis);
        let end = if single {
            begin + 1
        } else if set(open_end, axis) {
            size
        } else {
            place(ends.map_or(size, |ends| ends[axis]))
        };
        if single && begin >= size {
            return Err(call.fail(format!("index {begin} on axis {axis} is outside {from:?}")));
        }
        let length = (end - begin).max(0).unsigned_abs().div_ceil(step.unsigned_abs()) as usize;
        window.begin.push(begin.unsigned_abs() as usize);
        window.step.push(step.unsigned_abs() as usize);
        window.extents.push(length);
        if !single {
            window.shape.push(length);
        }
    }
    Ok(window)
}

pub(super) fn concat(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    if call.flag("interleave", false)? {
        return Err(call.fail("interleaving is not supported"));
    }
    let values = call.tensors("values")?;
    let Some(&first) = values.first() else { return Err(call.fail("`values` is empty")) };
    let storage = call.common_storage(&values)?;
    let mut shape = call.shape(first).to_vec();
    let axis = call.integer("axis")?.unwrap_or(0);
    let axis = shape::axis(axis, shape.len())
        .ok_or_else(|| call.fail(format!("axis {axis} is outside {shape:?}")))?;
    let mut total = 0usize;
    for &value in &values {
        let mut other = call.shape(value).to_vec();
        if let Some(extent) = other.get_mut(axis) {
            total = total.saturating_add(*extent);
            *extent = shape[axis];
        }
        if other != shape {
            return Err(
                call.fail(format!("{:?} does not fit beside {shape:?} on axis {axis}", call.shape(value)))
            );
        }
    }
    shape[axis] = total;
    shape::count(&shape).ok_or_else(|| call.fail(format!("the result {shape:?} has too many elements")))?;
    call.emit(Op::Concat { values, axis }, storage, shape)
}

/// A split is as many slices.
pub(super) fn split(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let x = call.tensor("x")?;
    let from = call.shape(x).to_vec();
    let axis = call.integer("axis")?.unwrap_or(0);
    let axis =
        shape::axis(axis, from.len()).ok_or_else(|| call.fail(format!("axis {axis} is outside {from:?}")))?;
    let extent = from[axis];
    let sizes: Option<Vec<usize>> = match (call.integers("split_sizes")?, call.integer("num_splits")?) {
        (Some(sizes), _) => sizes.iter().map(|&size| usize::try_from(size).ok()).collect(),
        (None, Some(parts)) => usize::try_from(parts)
            .ok()
            .filter(|&parts| parts > 0 && parts <= extent && extent.is_multiple_of(parts))
            .map(|parts| vec![extent / parts; parts]),
        (None, None) => None,
    };
    let total = |sizes: &Vec<usize>| sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
    let sizes = sizes
        .filter(|sizes| total(sizes) == Some(extent))
        .ok_or_else(|| call.fail(format!("its parts do not make up axis {axis} of {from:?}")))?;
    let storage = call.storage(x);
    let mut start = 0;
    for (index, size) in sizes.into_iter().enumerate() {
        let mut begin = vec![0; from.len()];
        begin[axis] = start;
        let mut extents = from.clone();
        extents[axis] = size;
        let step = vec![1; from.len()];
        call.emit_at(index, Op::Slice { x, begin, step, extents: extents.clone() }, storage, extents)?;
        start += size;
    }
    Ok(())
}
