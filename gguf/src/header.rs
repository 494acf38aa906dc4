//! The head of a GGUF file: magic, version, metadata, and the list of tensors.
//!
//! ```text
//! "GGUF" | version u32 | tensors u64 | keys u64 | keys × (name, type u32, value) | tensors × (name, dims, type, offset) | padding | data
//! ```
//!
//! Layout after the GGUF specification (`docs/gguf.md` of ggml). Version 2 and 3 differ only in that 3 may be
//! big-endian.

use indexmap::IndexMap;

use crate::{
    Array, Strings, TensorType, Value, ValueType,
    cursor::{Cursor, Reading},
    error::{Fault, Malformed},
};

/// Arrays of arrays may go this deep; the format sets no limit, and nothing that is written goes beyond one.
pub(crate) const MAX_DEPTH: u32 = 4;

/// Dimensions that a tensor may have, as in ggml (`GGML_MAX_DIMS`).
pub(crate) const MAX_DIMS: usize = 4;

/// Fewest bytes of a metadata entry: empty name, type, a one-byte value.
const MIN_KEY_BYTES: u64 = 8 + 4 + 1;

/// Fewest bytes of a tensor's description: empty name, dimension count, one dimension, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

/// A parsed head.
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) metadata: IndexMap<Box<str>, Value>,
    pub(crate) tensors: IndexMap<Box<str>, Entry>,
    /// Bytes that the head takes.
    pub(crate) len: u64,
}

/// One tensor's line in the head, checked by itself only.
pub(crate) struct Entry {
    /// Where in the file this line stands.
    pub(crate) at: u64,
    pub(crate) dims: Dims,
    pub(crate) dtype: TensorType,
    /// Offset of the data from the start of the data section.
    pub(crate) start: u64,
}

/// One to four dimensions, none of them zero, the fastest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    lens: [u64; MAX_DIMS],
    count: usize,
}

impl Dims {
    pub(crate) fn as_slice(&self) -> &[u64] {
        self.lens.get(..self.count).unwrap_or(&self.lens)
    }

    /// Weights in a row.
    pub(crate) fn row_len(&self) -> u64 {
        self.lens[0]
    }

    /// Rows, if 64 bits count them.
    pub(crate) fn rows(&self) -> Option<u64> {
        let [_, slower @ ..] = self.lens;
        slower.iter().try_fold(1_u64, |rows, &dim| rows.checked_mul(dim))
    }
}

/// Parses the head of the file that `bytes` are.
pub(crate) fn parse(bytes: &[u8]) -> Result<Header, Fault> {
    let mut cursor = Cursor::new(bytes);
    let version = preamble(&mut cursor)?;
    let tensor_count = cursor.count(MIN_TENSOR_BYTES, Reading::Tensors)?;
    let key_count = cursor.count(MIN_KEY_BYTES, Reading::Metadata)?;
    let metadata = metadata(&mut cursor, key_count)?;
    let tensors = tensors(&mut cursor, tensor_count)?;
    Ok(Header { version, metadata, tensors, len: cursor.offset() })
}

/// Magic and version.
fn preamble(cursor: &mut Cursor<'_>) -> Result<u32, Fault> {
    let start = cursor.offset();
    let magic = cursor.array::<4>(Reading::Header)?;
    let fault = |problem| Fault { offset: start, problem };
    match &magic {
        b"GGUF" => {}
        b"FUGG" => return Err(fault(Malformed::BigEndian)),
        _ => return Err(fault(Malformed::WrongMagic { found: magic })),
    }
    let start = cursor.offset();
    let fault = |problem| Fault { offset: start, problem };
    match cursor.u32(Reading::Header)? {
        version @ (2 | 3) => Ok(version),
        // Read in the wrong order, a small number stands in the upper bytes.
        version if version != 0 && version.trailing_zeros() >= 16 => Err(fault(Malformed::BigEndian)),
        version => Err(fault(Malformed::UnsupportedVersion { version })),
    }
}

fn metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<IndexMap<Box<str>, Value>, Fault> {
    let mut entries = IndexMap::new();
    for index in 0..count {
        let at = cursor.offset();
        let key = cursor.string(Reading::Key { index, count })?;
        let reading = Reading::Value { key };
        let kind = value_type(cursor, reading)?;
        let value = value(cursor, kind, reading)?;
        if entries.insert(key.into(), value).is_some() {
            return Err(Fault { offset: at, problem: Malformed::DuplicateKey { key: key.to_owned() } });
        }
    }
    Ok(entries)
}

fn value_type(cursor: &mut Cursor<'_>, reading: Reading<'_>) -> Result<ValueType, Fault> {
    let offset = cursor.offset();
    let id = cursor.u32(reading)?;
    ValueType::from_id(id).ok_or_else(|| Fault {
        offset,
        problem: Malformed::UnknownValueType { reading: reading.to_string(), id },
    })
}

fn value(cursor: &mut Cursor<'_>, kind: ValueType, reading: Reading<'_>) -> Result<Value, Fault> {
    Ok(match kind {
        ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.array(reading)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.array(reading)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array(reading)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array(reading)?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(cursor.array(reading)?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array(reading)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array(reading)?)),
        ValueType::Bool => {
            let offset = cursor.offset();
            let [byte] = cursor.array(reading)?;
            Value::Bool(bool_of(byte, offset, reading)?)
        }
        ValueType::String => Value::String(cursor.string(reading)?.into()),
        ValueType::Array => Value::Array(array(cursor, reading, 1)?),
        ValueType::U64 => Value::U64(u64::from_le_bytes(cursor.array(reading)?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array(reading)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array(reading)?)),
    })
}

fn bool_of(byte: u8, offset: u64, reading: Reading<'_>) -> Result<bool, Fault> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(Fault { offset, problem: Malformed::NotBool { reading: reading.to_string(), found } }),
    }
}

/// An array: element type, count, elements. `depth` counts the arrays that it lies in, itself included.
fn array(cursor: &mut Cursor<'_>, reading: Reading<'_>, depth: u32) -> Result<Array, Fault> {
    if depth > MAX_DEPTH {
        let reading = reading.to_string();
        return Err(cursor.fault(Malformed::NestedTooDeep { reading, limit: MAX_DEPTH }));
    }
    let kind = value_type(cursor, reading)?;
    let count = cursor.count(kind.min_bytes(), reading)?;
    Ok(match kind {
        ValueType::U8 => Array::U8(cursor.take(count, reading)?.to_vec()),
        ValueType::I8 => Array::I8(numbers(cursor, count, reading, i8::from_le_bytes)?),
        ValueType::U16 => Array::U16(numbers(cursor, count, reading, u16::from_le_bytes)?),
        ValueType::I16 => Array::I16(numbers(cursor, count, reading, i16::from_le_bytes)?),
        ValueType::U32 => Array::U32(numbers(cursor, count, reading, u32::from_le_bytes)?),
        ValueType::I32 => Array::I32(numbers(cursor, count, reading, i32::from_le_bytes)?),
        ValueType::F32 => Array::F32(numbers(cursor, count, reading, f32::from_le_bytes)?),
        ValueType::U64 => Array::U64(numbers(cursor, count, reading, u64::from_le_bytes)?),
        ValueType::I64 => Array::I64(numbers(cursor, count, reading, i64::from_le_bytes)?),
        ValueType::F64 => Array::F64(numbers(cursor, count, reading, f64::from_le_bytes)?),
        ValueType::Bool => {
            let start = cursor.offset();
            let bytes = cursor.take(count, reading)?;
            let bools = bytes.iter().zip(start..).map(|(&byte, offset)| bool_of(byte, offset, reading));
            Array::Bool(bools.collect::<Result<_, _>>()?)
        }
        ValueType::String => {
            let mut strings = Strings::default();
            for _ in 0..count {
                strings.push(cursor.string(reading)?);
            }
            Array::String(strings)
        }
        ValueType::Array => {
            let mut arrays = Vec::new();
            for _ in 0..count {
                arrays.push(array(cursor, reading, depth + 1)?);
            }
            Array::Array(arrays)
        }
    })
}

/// `count` numbers of `N` bytes.
fn numbers<const N: usize, T>(
    cursor: &mut Cursor<'_>,
    count: u64,
    reading: Reading<'_>,
    number: fn([u8; N]) -> T,
) -> Result<Vec<T>, Fault> {
    // The count was checked against the bytes left, so this cannot saturate.
    let bytes = cursor.take(count.saturating_mul(N as u64), reading)?;
    Ok(bytes.as_chunks::<N>().0.iter().map(|&bytes| number(bytes)).collect())
}

fn tensors(cursor: &mut Cursor<'_>, count: u64) -> Result<IndexMap<Box<str>, Entry>, Fault> {
    let mut entries = IndexMap::new();
    for index in 0..count {
        let at = cursor.offset();
        let name = cursor.string(Reading::TensorName { index, count })?;
        let entry = tensor(cursor, at, name)?;
        if entries.insert(name.into(), entry).is_some() {
            return Err(Fault {
                offset: at,
                problem: Malformed::DuplicateTensor { tensor: name.to_owned() },
            });
        }
    }
    Ok(entries)
}

fn tensor(cursor: &mut Cursor<'_>, at: u64, name: &str) -> Result<Entry, Fault> {
    let reading = Reading::Tensor { name };
    let offset = cursor.offset();
    let fault = |problem| Fault { offset, problem };
    let claimed = cursor.u32(reading)?;
    let count = usize::try_from(claimed)
        .ok()
        .filter(|count| (1..=MAX_DIMS).contains(count))
        .ok_or_else(|| fault(Malformed::DimensionCount { tensor: name.to_owned(), count: claimed }))?;
    let mut lens = [1; MAX_DIMS];
    for (axis, len) in lens.iter_mut().take(count).enumerate() {
        let offset = cursor.offset();
        *len = cursor.u64(reading)?;
        if *len == 0 {
            return Err(Fault {
                offset,
                problem: Malformed::ZeroDimension { tensor: name.to_owned(), axis },
            });
        }
    }
    let dtype = TensorType::from_id(cursor.u32(reading)?);
    let start = cursor.u64(reading)?;
    Ok(Entry { at, dims: Dims { lens, count }, dtype, start })
}
