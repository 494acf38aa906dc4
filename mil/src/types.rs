//! Types of an ML Program's variables: element types, extents, tensors and what holds them.

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DataType {
    /// Truth values.
    Bool,
    /// UTF-8 text.
    String,
    /// IEEE 754 binary16.
    Float16,
    /// IEEE 754 binary32.
    Float32,
    /// IEEE 754 binary64.
    Float64,
    /// bfloat16.
    BFloat16,
    /// 8-bit floating point, 4 exponent and 3 fraction bits, finite values and NaN.
    Float8E4M3Fn,
    /// 8-bit floating point, 5 exponent and 2 fraction bits.
    Float8E5M2,
    /// Signed 4-bit integers, two a byte in a blob.
    Int4,
    /// Signed 8-bit integers.
    Int8,
    /// Signed 16-bit integers.
    Int16,
    /// Signed 32-bit integers.
    Int32,
    /// Signed 64-bit integers.
    Int64,
    /// Unsigned 1-bit integers, eight a byte in a blob.
    UInt1,
    /// Unsigned 2-bit integers.
    UInt2,
    /// Unsigned 3-bit integers.
    UInt3,
    /// Unsigned 4-bit integers.
    UInt4,
    /// Unsigned 6-bit integers.
    UInt6,
    /// Unsigned 8-bit integers.
    UInt8,
    /// Unsigned 16-bit integers.
    UInt16,
    /// Unsigned 32-bit integers.
    UInt32,
    /// Unsigned 64-bit integers.
    UInt64,
}

/// Every element type with its name in MIL text, its width in bits, and its code in a weight file (`MILBlob`'s
/// `BlobDataType`); a type without a code cannot lie in a weight file.
const DATA_TYPES: [(DataType, &str, Option<u32>, Option<u32>); 22] = [
    (DataType::Bool, "bool", Some(8), None),
    (DataType::String, "string", None, None),
    (DataType::Float16, "fp16", Some(16), Some(1)),
    (DataType::Float32, "fp32", Some(32), Some(2)),
    (DataType::Float64, "fp64", Some(64), None),
    (DataType::BFloat16, "bf16", Some(16), Some(5)),
    (DataType::Float8E4M3Fn, "fp8e4m3fn", Some(8), Some(16)),
    (DataType::Float8E5M2, "fp8e5m2", Some(8), Some(17)),
    (DataType::Int4, "int4", Some(4), Some(8)),
    (DataType::Int8, "int8", Some(8), Some(4)),
    (DataType::Int16, "int16", Some(16), Some(6)),
    (DataType::Int32, "int32", Some(32), Some(14)),
    (DataType::Int64, "int64", Some(64), None),
    (DataType::UInt1, "uint1", Some(1), Some(9)),
    (DataType::UInt2, "uint2", Some(2), Some(10)),
    (DataType::UInt3, "uint3", Some(3), Some(12)),
    (DataType::UInt4, "uint4", Some(4), Some(11)),
    (DataType::UInt6, "uint6", Some(6), Some(13)),
    (DataType::UInt8, "uint8", Some(8), Some(3)),
    (DataType::UInt16, "uint16", Some(16), Some(7)),
    (DataType::UInt32, "uint32", Some(32), Some(15)),
    (DataType::UInt64, "uint64", Some(64), None),
];

impl DataType {
    /// Every element type.
    pub fn all() -> impl Iterator<Item = Self> {
        DATA_TYPES.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, Option<u32>, Option<u32>) {
        DATA_TYPES.iter().find(|row| row.0 == self).unwrap_or(&DATA_TYPES[0])
    }

    /// The name in MIL text, such as `fp16`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The element type that MIL text calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        DATA_TYPES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Bits an element takes in a tensor's bytes; `None` for text. A truth value takes a byte.
    pub fn bits(self) -> Option<u32> {
        self.row().2
    }

    /// The code in a weight file's blob record; `None` if elements of this type cannot lie in a weight file.
    pub fn blob_code(self) -> Option<u32> {
        self.row().3
    }

    /// The element type a weight file calls `code`.
    pub fn from_blob_code(code: u32) -> Option<Self> {
        DATA_TYPES.iter().find(|row| row.3 == Some(code)).map(|row| row.0)
    }

    /// Whether elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::Float16
                | Self::Float32
                | Self::Float64
                | Self::BFloat16
                | Self::Float8E4M3Fn
                | Self::Float8E5M2
        )
    }

    /// Whether elements are integers; truth values are not.
    pub fn is_integer(self) -> bool {
        !self.is_float() && !matches!(self, Self::Bool | Self::String)
    }

    /// The smallest and the largest value of an integer type; `None` for other types.
    pub fn integer_range(self) -> Option<(i128, i128)> {
        let bits = self.bits().filter(|_| self.is_integer())?;
        let signed = matches!(self, Self::Int4 | Self::Int8 | Self::Int16 | Self::Int32 | Self::Int64);
        Some(if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) })
    }
}

/// One extent of a tensor's shape, or the length of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Known when the program was written.
    Fixed(u64),
    /// Known only when the program runs; printed `?` (or `...` when `variadic`).
    Unknown {
        /// Stands for any number of extents.
        variadic: bool,
    },
}

impl Dimension {
    /// The extent, if it is known.
    pub fn fixed(self) -> Option<u64> {
        match self {
            Self::Fixed(size) => Some(size),
            Self::Unknown { .. } => None,
        }
    }
}

/// What a variable holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A dense tensor; rank 0 is a scalar.
    Tensor {
        /// Element type.
        dtype: DataType,
        /// Extents, slowest first.
        shape: Vec<Dimension>,
    },
    /// Values of one type.
    List {
        /// Element type.
        element: Box<ValueType>,
        /// Number of elements.
        length: Dimension,
    },
    /// Values of several types.
    Tuple(Vec<ValueType>),
    /// Key type and value type.
    Dictionary(Box<ValueType>, Box<ValueType>),
    /// A buffer that outlives one prediction, such as a KV cache.
    State(Box<ValueType>),
}

impl ValueType {
    /// A tensor type of fixed `shape`.
    pub fn tensor(dtype: DataType, shape: &[u64]) -> Self {
        Self::Tensor { dtype, shape: shape.iter().copied().map(Dimension::Fixed).collect() }
    }

    /// A scalar type.
    pub fn scalar(dtype: DataType) -> Self {
        Self::Tensor { dtype, shape: Vec::new() }
    }

    /// Element type of a tensor, or of the tensor a state holds.
    pub fn dtype(&self) -> Option<DataType> {
        match self {
            Self::Tensor { dtype, .. } => Some(*dtype),
            Self::State(inner) => inner.dtype(),
            _ => None,
        }
    }

    /// Extents of a tensor (or of the tensor a state holds), if all of them are known.
    pub fn fixed_shape(&self) -> Option<Vec<u64>> {
        match self {
            Self::Tensor { shape, .. } => shape.iter().map(|extent| extent.fixed()).collect(),
            Self::State(inner) => inner.fixed_shape(),
            _ => None,
        }
    }

    /// Number of elements of a tensor, if its shape is known and the product fits.
    pub fn element_count(&self) -> Option<u64> {
        self.fixed_shape()?.into_iter().try_fold(1_u64, u64::checked_mul)
    }

    /// Bytes the elements take in a weight file or a buffer; types narrower than a byte are packed.
    pub fn byte_len(&self) -> Option<u64> {
        let bits = u64::from(self.dtype()?.bits()?);
        Some(self.element_count()?.checked_mul(bits)?.div_ceil(8))
    }
}
