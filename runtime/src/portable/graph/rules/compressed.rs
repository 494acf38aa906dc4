//! Weights that are stored quantized.
//!
//! int8 with one scale for each row, or one for all, and no offset stays as it is: a convolution multiplies it in exact
//! integer arithmetic. Everything else becomes fp16 here: `round((q − offset) · scale)`.

use anepipe_mil::program::{DataType, Literal, Value};

use crate::portable::arith::half::round;
use crate::portable::graph::constant::{Int8, Mapped};
use crate::portable::graph::lower::{Binding, Quantized, fixed};
use crate::portable::graph::parameters::Call;
use crate::portable::graph::{Constant, ProgramError, Storage, shape};

/// Integers with their shape.
struct Integers {
    shape: Vec<usize>,
    dtype: DataType,
    elements: Int8,
}

impl Integers {
    /// The elements, those of an unsigned type read as such.
    fn value(&self, index: usize) -> f32 {
        let bits = self.elements.elements()[index];
        if self.dtype == DataType::UInt8 { f32::from(bits.cast_unsigned()) } else { f32::from(bits) }
    }

    fn are_zero(&self) -> bool {
        self.elements.elements().iter().all(|&element| element == 0)
    }
}

pub(super) fn blockwise_shift_scale(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let data = integers(&call, "data")?.ok_or_else(|| call.fail("`data` is missing"))?;
    let (blocks, scales) = call.numbers("scale")?.ok_or_else(|| call.fail("`scale` is missing"))?;
    let offset = integers(&call, "offset")?;
    if blocks.len() != data.shape.len()
        || data.shape.iter().zip(&blocks).any(|(&extent, &block)| block == 0 || extent % block != 0)
        || offset.as_ref().is_some_and(|offset| offset.shape != blocks)
    {
        return Err(call.fail(format!("scales {blocks:?} and their offsets do not divide {:?}", data.shape)));
    }
    finish(&mut call, data, &blocks, scales, offset)
}

pub(super) fn affine_dequantize(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let data = integers(&call, "quantized_data")?.ok_or_else(|| call.fail("`quantized_data` is missing"))?;
    let (scale_shape, scales) = call.numbers("scale")?.ok_or_else(|| call.fail("`scale` is missing"))?;
    let mut offset = integers(&call, "zero_point")?;
    let axis = call.integer("axis")?.unwrap_or(0);
    let axis = shape::axis(axis, data.shape.len())
        .ok_or_else(|| call.fail(format!("axis {axis} is outside {:?}", data.shape)))?;
    // A vector along `axis` and a scalar are both blocks of the same kind the other form has.
    let spread = |from: &[usize]| match from {
        [] => Some(vec![1; data.shape.len()]),
        [n] if *n == 1 || *n == data.shape[axis] => {
            let mut blocks = vec![1; data.shape.len()];
            blocks[axis] = *n;
            Some(blocks)
        }
        _ => None,
    };
    let misfit = || {
        call.fail(format!(
            "`scale` {scale_shape:?} or `zero_point` does not fit axis {axis} of {:?}",
            data.shape
        ))
    };
    let blocks = spread(&scale_shape).ok_or_else(misfit)?;
    if let Some(offset) = &mut offset {
        offset.shape = spread(&offset.shape).ok_or_else(misfit)?;
    }
    finish(&mut call, data, &blocks, scales, offset)
}

fn finish(
    call: &mut Call<'_, '_>,
    data: Integers,
    blocks: &[usize],
    scales: Constant,
    offset: Option<Integers>,
) -> Result<(), ProgramError> {
    let offset = offset.filter(|offset| !offset.are_zero());
    let rows_only = blocks.iter().skip(1).all(|&block| block == 1)
        && blocks.first().is_none_or(|&block| block == 1 || block == data.shape[0]);
    if rows_only && offset.is_none() && data.dtype == DataType::Int8 && !matches!(scales, Constant::Single(_))
    {
        return call.bind(Binding::Quantized(Quantized {
            shape: data.shape,
            elements: data.elements,
            scales,
        }));
    }
    let scales = scales.single();
    let elements = (0..data.elements.elements().len()).map(|index| {
        let scale = scales[block_index(index, &data.shape, blocks)];
        let offset = offset
            .as_ref()
            .map_or(0.0, |offset| offset.value(block_index(index, &data.shape, &offset.shape)));
        round((data.value(index) - offset) * scale)
    });
    let constant = Constant::Half(elements.collect());
    let name = call.kind().to_owned();
    let id = call.builder().value(name, Storage::Half, data.shape, Some(constant));
    call.bind(Binding::Value(id))
}

/// Which of `blocks` the element at `index` of a tensor lies in.
fn block_index(mut index: usize, shape: &[usize], blocks: &[usize]) -> usize {
    let (mut block, mut stride) = (0, 1);
    for (&extent, &count) in shape.iter().zip(blocks).rev() {
        block += (index % extent) / (extent / count) * stride;
        index /= extent;
        stride *= count;
    }
    block
}

fn integers(call: &Call<'_, '_>, name: &str) -> Result<Option<Integers>, ProgramError> {
    let Some(value) = call.constant(name)? else { return Ok(None) };
    let dtype = value.ty.dtype().filter(|dtype| matches!(dtype, DataType::Int8 | DataType::UInt8));
    let (Some(dtype), Some(extents)) = (dtype, value.ty.fixed_shape()) else {
        return Err(call.fail(format!("`{name}` is {}; only int8 and uint8 are supported", value.ty)));
    };
    let shape = fixed(&extents).ok_or_else(|| call.fail(format!("`{name}` has too many elements")))?;
    let elements = elements(call, value).ok_or_else(|| call.fail(format!("`{name}` has no elements")))?;
    Ok(Some(Integers { shape, dtype, elements }))
}

fn elements(call: &Call<'_, '_>, value: &Value) -> Option<Int8> {
    match &value.literal {
        Literal::Int(elements) => Some(Int8::Inline(elements.iter().map(|&element| element as i8).collect())),
        Literal::Blob { .. } => Some(Int8::Mapped(Mapped::new(call.model(), value)?)),
        _ => None,
    }
}
