//! The embedding: a row for every token, read where the file is mapped.
#![allow(unsafe_code)]

use std::ops::Range;
use std::path::Path;

use half::f16;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::error::SessionError;
use crate::token::TokenId;

/// Name of the tensor in its file.
const TENSOR: &str = "embedding";

/// A mapped matrix `[vocab, d]`, fp16.
#[derive(Debug)]
pub(super) struct Embedding {
    map: Mmap,
    /// The matrix, row after row.
    bytes: Range<usize>,
    width: usize,
}

impl Embedding {
    /// Maps the tensor `embedding` of the safetensors file at `path`, which must be fp16 `[vocab, width]`.
    pub(super) fn open(path: &Path, vocab: usize, width: usize) -> Result<Self, SessionError> {
        let refuse = |reason: String| SessionError::Embedding { path: path.to_owned(), reason };
        let file = fs_err::File::open(path).map_err(|error| refuse(error.to_string()))?;
        // SAFETY: a mapping is unsound only if the file changes beneath it. A bundle's files are written once, under another
        // name, and renamed into place; nothing in this project writes to or cuts off one that exists.
        let map = unsafe { Mmap::map(file.file()) }.map_err(|error| refuse(error.to_string()))?;
        let bytes = locate(&map, vocab, width).map_err(refuse)?;
        Ok(Self { map, bytes, width })
    }

    /// Copies the row of `token` to `row` `[d]`; false if the vocabulary has no such token.
    pub(super) fn read(&self, token: TokenId, row: &mut [f16]) -> bool {
        let stored = self
            .map
            .get(self.bytes.clone())
            .and_then(|bytes| bytes.chunks_exact(2 * self.width).nth(token as usize));
        let Some(stored) = stored else { return false };
        for (into, pair) in row.iter_mut().zip(stored.as_chunks().0) {
            *into = f16::from_le_bytes(*pair);
        }
        true
    }
}

/// Where the matrix lies in the bytes of a file.
fn locate(file: &[u8], vocab: usize, width: usize) -> Result<Range<usize>, String> {
    let tensors = SafeTensors::deserialize(file)
        .map_err(|error| format!("it is no whole safetensors file: {error}"))?;
    let tensor = tensors.tensor(TENSOR).map_err(|_| {
        let names = tensors.names().join(", ");
        format!("it has no tensor `{TENSOR}`; it has: {names}")
    })?;
    if tensor.dtype() != Dtype::F16 || *tensor.shape() != [vocab, width] {
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        return Err(format!("`{TENSOR}` is {dtype} {shape:?}, the model has F16 [{vocab}, {width}]"));
    }
    let data = tensor.data();
    let start = data.as_ptr() as usize - file.as_ptr() as usize;
    Ok(start..start + data.len())
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn file(name: &str, dtype: Dtype, shape: &[usize]) -> Vec<u8> {
        let bytes: Vec<u8> = (0..shape.iter().product::<usize>())
            .flat_map(|index| f16::from_f32(index as f32).to_le_bytes())
            .collect();
        let view = TensorView::new(dtype, shape.to_vec(), &bytes).expect("a tensor");
        safetensors::serialize([(name, view)], None).expect("a file")
    }

    fn open(bytes: &[u8]) -> Result<Embedding, SessionError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("embedding.safetensors");
        fs_err::write(&path, bytes).expect("written");
        Embedding::open(&path, 5, 3)
    }

    #[test]
    fn rows_are_read_by_token() {
        let embedding = open(&file(TENSOR, Dtype::F16, &[5, 3])).expect("an embedding");
        let mut row = [f16::ZERO; 3];
        for token in 0..5_u8 {
            assert!(embedding.read(token.into(), &mut row));
            assert_eq!(row, [0, 1, 2].map(|index| f16::from(3 * token + index)));
        }
        assert!(!embedding.read(5, &mut row));
        assert!(!embedding.read(TokenId::MAX, &mut row));
    }

    #[test]
    fn each_kind_of_wrong_file_is_refused_by_name() {
        let good = file(TENSOR, Dtype::F16, &[5, 3]);
        let table = [
            (file("hidden", Dtype::F16, &[5, 3]), "it has no tensor `embedding`; it has: hidden"),
            (file(TENSOR, Dtype::BF16, &[5, 3]), "BF16 [5, 3], the model has F16 [5, 3]"),
            (file(TENSOR, Dtype::F16, &[3, 5]), "F16 [3, 5], the model has F16 [5, 3]"),
            (good[..good.len() - 1].to_vec(), "no whole safetensors file"),
            (good[..20].to_vec(), "no whole safetensors file"),
            (vec![0xff; 64], "no whole safetensors file"),
            (vec![], "no whole safetensors file"),
        ];
        for (bytes, expected) in table {
            let error = open(&bytes).expect_err(expected).to_string();
            assert!(error.contains(expected) && error.contains("embedding.safetensors"), "{error}");
        }
        assert!(Embedding::open(Path::new("absent.safetensors"), 5, 3).is_err());
    }
}
