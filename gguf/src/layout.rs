//! Where each tensor's bytes lie in its file, and the proof that they lie there.

use indexmap::IndexMap;

use crate::{
    TensorType, Value,
    error::{Fault, Malformed},
    header::{Dims, Entry, Header},
    metadata::describe,
};

/// Alignment of a file that does not set `general.alignment`.
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;

const ALIGNMENT_KEY: &str = "general.alignment";

/// A tensor whose bytes are known to lie in its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) dims: Dims,
    pub(crate) dtype: TensorType,
    pub(crate) rows: u64,
    /// First byte, from the start of the file.
    pub(crate) offset: u64,
    /// Bytes of data; none are known for an unknown type.
    pub(crate) len: u64,
}

/// The alignment of a file's data: `general.alignment`, or 32.
pub(crate) fn alignment(metadata: &IndexMap<Box<str>, Value>) -> Result<u64, Malformed> {
    let Some(value) = metadata.get(ALIGNMENT_KEY) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    value
        .as_integer()
        .and_then(|v| u32::try_from(v).ok())
        .filter(|v| v.is_power_of_two())
        .map(u64::from)
        .ok_or_else(|| Malformed::BadAlignment { found: describe(value) })
}

/// Places every tensor of `header` in a file of `file_len` bytes, in the order of the list.
pub(crate) fn place(header: &Header, file_len: u64) -> Result<Vec<Placed>, Fault> {
    let alignment = alignment(&header.metadata).map_err(|problem| Fault { offset: 0, problem })?;
    let placed: Vec<Placed> = header
        .tensors
        .iter()
        .map(|(name, entry)| place_one(name, entry, header.len, alignment, file_len))
        .collect::<Result<_, _>>()?;
    refuse_overlap(header, &placed)?;
    Ok(placed)
}

fn place_one(
    name: &str,
    entry: &Entry,
    header_len: u64,
    alignment: u64,
    file_len: u64,
) -> Result<Placed, Fault> {
    let Entry { at, dims, dtype, start } = *entry;
    let tensor = || name.to_owned();
    let fault = |problem| Fault { offset: at, problem };
    let too_large = || fault(Malformed::TooLarge { tensor: tensor(), dims: dims.as_slice().to_vec() });

    let rows = dims.rows().ok_or_else(too_large)?;
    rows.checked_mul(dims.row_len()).ok_or_else(too_large)?;
    let len = match (dtype.block_len(), dtype.block_bytes()) {
        (Some(block_len), Some(block_bytes)) => {
            let row_len = dims.row_len();
            if row_len % block_len != 0 {
                return Err(fault(Malformed::RowNotBlocks { tensor: tensor(), dtype, row_len, block_len }));
            }
            let row_bytes = (row_len / block_len).checked_mul(block_bytes).ok_or_else(too_large)?;
            row_bytes.checked_mul(rows).ok_or_else(too_large)?
        }
        _ => 0,
    };
    if start % alignment != 0 {
        return Err(fault(Malformed::Misaligned { tensor: tensor(), start, alignment }));
    }
    let offset = header_len.checked_next_multiple_of(alignment).and_then(|data| data.checked_add(start));
    let end = offset.and_then(|offset| offset.checked_add(len));
    match (offset, end) {
        (Some(offset), Some(end)) if end <= file_len => Ok(Placed { dims, dtype, rows, offset, len }),
        _ => Err(Fault {
            offset: offset.unwrap_or(u64::MAX),
            problem: Malformed::OutOfRange { tensor: tensor(), bytes: len, file_len },
        }),
    }
}

/// No byte belongs to two tensors; one of unknown type takes at least a byte.
fn refuse_overlap(header: &Header, placed: &[Placed]) -> Result<(), Fault> {
    let mut order: Vec<(&Placed, &str)> =
        placed.iter().zip(header.tensors.keys().map(|name| &**name)).collect();
    order.sort_by_key(|(tensor, _)| tensor.offset);
    for pair in order.windows(2) {
        let [(first, other), (second, tensor)] = pair else { continue };
        if first.offset + first.len.max(1) > second.offset {
            return Err(Fault {
                offset: second.offset,
                problem: Malformed::Overlap { tensor: (*tensor).to_owned(), other: (*other).to_owned() },
            });
        }
    }
    Ok(())
}
