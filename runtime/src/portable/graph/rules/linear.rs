//! Matrix products.

use crate::portable::arith::fixed::MAX_COLUMN;
use crate::portable::graph::lower::Binding;
use crate::portable::graph::parameters::Call;
use crate::portable::graph::{Constant, Convolution, Matrix, Op, ProgramError, Storage, shape};

pub(super) fn convolution(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let x = call.tensor("x")?;
    if call.storage(x) != Storage::Half {
        return Err(call.fail("its input is fp32; only fp16 convolutions are supported"));
    }
    let (weight, kernel) = weight(&mut call)?;
    let input = call.shape(x).to_vec();
    let (Some(&batch), Some(&channels), Some(space)) = (input.first(), input.get(1), input.get(2..)) else {
        return Err(call.fail(format!("its input {input:?} has no channels")));
    };
    let [rows, weight_channels, window @ ..] = kernel.as_slice() else {
        return Err(call.fail(format!("its weights {kernel:?} have no channels")));
    };
    if *weight_channels != channels || window.len() != space.len() {
        return Err(call.fail(format!("weights {kernel:?} do not fit the input {input:?}")));
    }
    let plain =
        |values: Option<&[i64]>, plain: i64| values.is_none_or(|values| values.iter().all(|&v| v == plain));
    let padding = call.text("pad_type")?.unwrap_or("valid");
    if window.iter().any(|&extent| extent != 1)
        || !plain(call.integers("strides")?, 1)
        || !plain(call.integers("dilations")?, 1)
        || call.integer("groups")?.unwrap_or(1) != 1
        || (padding == "custom" && !plain(call.integers("pad")?, 0))
    {
        return Err(call.fail(format!(
            "only 1x1 convolutions of stride 1, one group and no padding are supported; the weights are {kernel:?}"
        )));
    }
    if channels > MAX_COLUMN && matches!(weight, Matrix::Int8 { .. }) {
        return Err(call.fail(format!("{channels} channels; int8 products are specified up to {MAX_COLUMN}")));
    }
    let bias = match call.numbers("bias")? {
        Some((_, Constant::Single(_))) => return Err(call.fail("its bias is fp32; only fp16 is supported")),
        Some((shape, bias)) if shape.iter().product::<usize>() == *rows => Some(bias),
        Some((shape, _)) => return Err(call.fail(format!("its bias {shape:?} does not fit {rows} rows"))),
        None => None,
    };
    let mut output = vec![batch, *rows];
    output.extend(space);
    call.emit(Op::Convolution(Convolution { x, weight, bias }), Storage::Half, output)
}

/// The weights and their shape.
fn weight(call: &mut Call<'_, '_>) -> Result<(Matrix, Vec<usize>), ProgramError> {
    if let Some(Binding::Quantized(tensor)) = call.binding("weight") {
        let matrix = Matrix::Int8 { weights: tensor.elements.clone(), scales: tensor.scales.clone() };
        return Ok((matrix, tensor.shape.clone()));
    }
    let id = call.tensor("weight")?;
    let value = call.builder().graph.value(id).clone();
    match value.constant {
        Some(constant) if value.storage == Storage::Half => Ok((Matrix::Half(constant), value.shape)),
        Some(_) => Err(call.fail("its weights are fp32; fp16 and int8 are supported")),
        None => Err(call.fail(format!("its weights `{}` have to be constant", value.name))),
    }
}

pub(super) fn matmul(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    let storage = call.common_storage(&[x, y])?;
    let (transpose_x, transpose_y) = (call.flag("transpose_x", false)?, call.flag("transpose_y", false)?);
    let (a, b) = (call.shape(x), call.shape(y));
    let misfit = || call.fail(format!("shapes {a:?} and {b:?} do not multiply"));
    let matrix = |shape: &[usize], transpose: bool| match shape {
        [batch @ .., rows, columns] => {
            let (rows, columns) = if transpose { (*columns, *rows) } else { (*rows, *columns) };
            Some((batch.to_vec(), rows, columns))
        }
        _ => None,
    };
    let (batch_x, m, k) = matrix(a, transpose_x).ok_or_else(misfit)?;
    let (batch_y, inner, n) = matrix(b, transpose_y).ok_or_else(misfit)?;
    let mut output = shape::broadcast(&batch_x, &batch_y).filter(|_| k == inner).ok_or_else(misfit)?;
    output.extend([m, n]);
    shape::count(&output).ok_or_else(misfit)?;
    call.emit(Op::Matmul { x, y, transpose_x, transpose_y }, storage, output)
}
