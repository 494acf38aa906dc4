//! A tensor in a file: its shape, its bytes, and its weights by rows.

use std::{ops::Range, path::Path};

use half::f16;

use crate::{GgufError, TensorType, dequant, dequant::Kernel, layout::Placed, source::Source};

/// Weights that are converted at a time on the way to f16; a multiple of every block length.
const CHUNK: usize = 1024;

/// One tensor of an open model. A few words that borrow from the [`Gguf`](crate::Gguf); copy it freely, also across
/// threads.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    pub(crate) name: &'a str,
    pub(crate) file: &'a Path,
    pub(crate) source: &'a Source,
    pub(crate) placed: &'a Placed,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// The tensor's name, such as `blk.0.attn_qkv.weight`.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// How the weights are stored.
    #[must_use]
    pub fn dtype(&self) -> TensorType {
        self.placed.dtype
    }

    /// The dimensions as GGUF lists them, fastest first: `[columns, rows, …]`. One to four, none of them zero.
    #[must_use]
    pub fn dims(&self) -> &'a [u64] {
        self.placed.dims.as_slice()
    }

    /// The dimensions slowest first, as numpy and Core ML list them: `[…, rows, columns]`.
    #[must_use]
    pub fn shape(&self) -> Vec<u64> {
        self.dims().iter().rev().copied().collect()
    }

    /// Weights in a row: the fastest dimension.
    #[must_use]
    pub fn row_len(&self) -> u64 {
        self.placed.dims.row_len()
    }

    /// Rows: the product of all dimensions but the fastest.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.placed.rows
    }

    /// Weights in the tensor.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.rows() * self.row_len() // known to fit since the file was opened
    }

    /// Never: no dimension is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The tensor's bytes as stored; none for an unknown type, whose size is unknown too.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The file that holds the tensor: one of several if the model is split.
    #[must_use]
    pub fn file(&self) -> &'a Path {
        self.file
    }

    /// Where the tensor's bytes start in [`Tensor::file`].
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.placed.offset
    }

    /// Lets the system take the tensor's bytes out of memory again; reading them later fetches them from the file anew.
    ///
    /// Bytes that were read stay mapped and count as the process's memory until the system needs room. Who streams a
    /// model larger than its budget calls this after each tensor.
    pub fn release(&self) {
        self.source.release(self.placed.offset, self.placed.len);
    }

    /// Writes the weights of `rows` to `out`, row after row, as f32, bit for bit what gguf-py's `dequantize` gives.
    ///
    /// `out` must hold exactly `rows.len() * row_len()` weights. Nothing is allocated.
    pub fn dequantize_rows_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<(), GgufError> {
        let (kernel, bytes) = self.rows_of(&rows, out.len())?;
        (kernel.to_f32)(bytes, out);
        Ok(())
    }

    /// Writes the weights of `rows` to `out`, row after row, as f16: the f32 weights rounded to nearest, ties to even.
    /// What is too large for f16 becomes infinite; [`first_non_finite_f16`](crate::first_non_finite_f16) finds it.
    ///
    /// `out` must hold exactly `rows.len() * row_len()` weights. Nothing is allocated.
    pub fn dequantize_rows_f16(&self, rows: Range<u64>, out: &mut [f16]) -> Result<(), GgufError> {
        let (kernel, bytes) = self.rows_of(&rows, out.len())?;
        if self.dtype() == TensorType::F16 {
            dequant::f16_to_f16(bytes, out);
            return Ok(());
        }
        let mut wide = [0.0; CHUNK];
        let chunk_bytes = CHUNK / kernel.block_len * kernel.block_bytes;
        for (bytes, out) in bytes.chunks(chunk_bytes).zip(out.chunks_mut(CHUNK)) {
            let Some(wide) = wide.get_mut(..out.len()) else { continue };
            (kernel.to_f32)(bytes, wide);
            dequant::narrow(wide, out);
        }
        Ok(())
    }

    /// The kernel for this tensor and the bytes of `rows`, once both they and the output's length are known to be
    /// right.
    fn rows_of(&self, rows: &Range<u64>, given: usize) -> Result<(Kernel, &'a [u8]), GgufError> {
        let (file, tensor) = (|| self.file.to_owned(), || self.name.to_owned());
        let no_kernel = || GgufError::NoKernel { file: file(), tensor: tensor(), dtype: self.dtype() };
        let kernel = dequant::kernel(self.dtype()).ok_or_else(no_kernel)?;

        let no_such_rows = || GgufError::NoSuchRows {
            file: file(),
            tensor: tensor(),
            rows: rows.clone(),
            available: self.rows(),
        };
        let count =
            rows.end.checked_sub(rows.start).filter(|_| rows.end <= self.rows()).ok_or_else(no_such_rows)?;
        let needed = count * self.row_len(); // at most the tensor's length, which fits
        if needed != given as u64 {
            return Err(GgufError::OutputLength {
                file: file(),
                tensor: tensor(),
                needed,
                given: given as u64,
            });
        }
        // Whole blocks make a row, and the tensor's bytes are in memory, so neither the division nor the casts lose.
        let row_bytes = self.bytes.len() as u64 / self.rows();
        let (start, end) = ((rows.start * row_bytes) as usize, (rows.end * row_bytes) as usize);
        let bytes = self.bytes.get(start..end).ok_or_else(no_such_rows)?;
        Ok((kernel, bytes))
    }
}
