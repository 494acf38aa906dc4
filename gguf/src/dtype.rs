//! The types a tensor's weights can be stored in.

use std::fmt;

/// How a tensor's weights are stored. Weights come in blocks of [`TensorType::block_len`] along a row; the plain number
/// types are blocks of one.
///
/// Numbers and sizes are those of ggml's `enum ggml_type`. Ids that ggml has withdrawn, or that are newer than this
/// crate, are [`TensorType::Unknown`]: such a tensor is listed by name and shape, and refused when its weights are
/// asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, non_camel_case_types)] // the names of ggml, known to everyone who reads these files
#[non_exhaustive]
pub enum TensorType {
    F32,
    F16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ2_XXS,
    IQ2_XS,
    IQ3_XXS,
    IQ1_S,
    IQ4_NL,
    IQ3_S,
    IQ2_S,
    IQ4_XS,
    I8,
    I16,
    I32,
    I64,
    F64,
    IQ1_M,
    BF16,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
    Q1_0,
    /// An id this crate has no name for.
    Unknown(u32),
}

/// One line of the table below: type, id in the file, name, weights in a block, bytes in a block.
type Row = (TensorType, u32, &'static str, u64, u64);

/// Weights in a block of the "K" types.
const K: u64 = 256;

const TABLE: [Row; 34] = {
    #[allow(clippy::enum_glob_use)] // all of them, and nothing else
    use TensorType::*;
    [
        (F32, 0, "F32", 1, 4),
        (F16, 1, "F16", 1, 2),
        (Q4_0, 2, "Q4_0", 32, 2 + 16),
        (Q4_1, 3, "Q4_1", 32, 2 + 2 + 16),
        (Q5_0, 6, "Q5_0", 32, 2 + 4 + 16),
        (Q5_1, 7, "Q5_1", 32, 2 + 2 + 4 + 16),
        (Q8_0, 8, "Q8_0", 32, 2 + 32),
        (Q8_1, 9, "Q8_1", 32, 4 + 4 + 32),
        (Q2_K, 10, "Q2_K", K, K / 16 + K / 4 + 2 + 2),
        (Q3_K, 11, "Q3_K", K, K / 8 + K / 4 + 12 + 2),
        (Q4_K, 12, "Q4_K", K, 2 + 2 + 12 + K / 2),
        (Q5_K, 13, "Q5_K", K, 2 + 2 + 12 + K / 8 + K / 2),
        (Q6_K, 14, "Q6_K", K, K / 2 + K / 4 + K / 16 + 2),
        (Q8_K, 15, "Q8_K", K, 4 + K + K / 8),
        (IQ2_XXS, 16, "IQ2_XXS", K, 2 + K / 4),
        (IQ2_XS, 17, "IQ2_XS", K, 2 + K / 4 + K / 32),
        (IQ3_XXS, 18, "IQ3_XXS", K, 2 + K / 4 + K / 8),
        (IQ1_S, 19, "IQ1_S", K, 2 + K / 8 + K / 16),
        (IQ4_NL, 20, "IQ4_NL", 32, 2 + 16),
        (IQ3_S, 21, "IQ3_S", K, 2 + K / 4 + K / 8 + K / 32 + 4),
        (IQ2_S, 22, "IQ2_S", K, 2 + K / 4 + K / 16),
        (IQ4_XS, 23, "IQ4_XS", K, 2 + 2 + K / 64 + K / 2),
        (I8, 24, "I8", 1, 1),
        (I16, 25, "I16", 1, 2),
        (I32, 26, "I32", 1, 4),
        (I64, 27, "I64", 1, 8),
        (F64, 28, "F64", 1, 8),
        (IQ1_M, 29, "IQ1_M", K, K / 8 + K / 16 + K / 32),
        (BF16, 30, "BF16", 1, 2),
        (TQ1_0, 34, "TQ1_0", K, 4 * 13 + 2),
        (TQ2_0, 35, "TQ2_0", K, 64 + 2),
        (MXFP4, 39, "MXFP4", 32, 1 + 16),
        (NVFP4, 40, "NVFP4", 64, 4 + 32),
        (Q1_0, 41, "Q1_0", 128, 2 + 16),
    ]
};

impl TensorType {
    /// The type that a file means by `id`.
    #[must_use]
    pub fn from_id(id: u32) -> Self {
        TABLE.iter().find(|row| row.1 == id).map_or(Self::Unknown(id), |row| row.0)
    }

    /// The number that stands for this type in a file.
    #[must_use]
    pub fn id(self) -> u32 {
        match self {
            Self::Unknown(id) => id,
            known => known.row().map_or(u32::MAX, |row| row.1),
        }
    }

    /// Weights in a block; `None` for an unknown type.
    #[must_use]
    pub fn block_len(self) -> Option<u64> {
        self.row().map(|row| row.3)
    }

    /// Bytes in a block; `None` for an unknown type.
    #[must_use]
    pub fn block_bytes(self) -> Option<u64> {
        self.row().map(|row| row.4)
    }

    /// Every type this crate has a name for.
    pub fn known() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// Whether [`Tensor::dequantize_rows_f32`](crate::Tensor::dequantize_rows_f32) can read this type.
    #[must_use]
    pub fn can_dequantize(self) -> bool {
        crate::dequant::kernel(self).is_some()
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.0 == self)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.row()) {
            (_, Some(row)) => f.write_str(row.2),
            (Self::Unknown(id), None) => write!(f, "unknown type {id}"),
            (other, None) => write!(f, "{other:?}"),
        }
    }
}
