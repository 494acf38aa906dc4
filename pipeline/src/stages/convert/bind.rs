//! Which tensor fills which blob.

use std::collections::HashSet;
use std::path::Path;

use anepipe_mil::blob::BlobSpec;
use anepipe_mil::program::DataType;
use safetensors::Dtype;

use super::ConvertError;
use crate::stages::graph::{Blob, BlobTable, Part, TensorKind};
use crate::tensors::{TensorFile, TensorRef};

/// The tensor of every blob, in the table's order.
pub(super) fn bind<'a>(
    table: &BlobTable,
    path: &Path,
    files: &'a [TensorFile],
) -> Result<Vec<TensorRef<'a>>, ConvertError> {
    let mut used = HashSet::new();
    let mut bound = Vec::with_capacity(table.blobs().len());
    for blob in table.blobs() {
        let name = tensor_name(blob);
        let index = file_of(blob, &name, path, files)?;
        let tensor = files[index].tensor(&name)?;
        check(blob, &files[index], &tensor)?;
        used.insert((index, name));
        bound.push(tensor);
    }
    for (index, file) in files.iter().enumerate() {
        if let Some(tensor) = file.names().into_iter().find(|name| !used.contains(&(index, name.clone()))) {
            let (table, file) = (path.to_owned(), file.path().to_owned());
            return Err(ConvertError::Unused { table, file, tensor });
        }
    }
    Ok(bound)
}

/// The blobs as the weight file's writer takes them.
pub(super) fn layout(table: &BlobTable) -> Vec<BlobSpec> {
    let spec = |blob: &Blob| BlobSpec {
        name: blob.name.clone(),
        dtype: if dtype(blob) == Dtype::I8 { DataType::Int8 } else { DataType::Float16 },
        shape: blob.shape.clone(),
        record: blob.record,
        data: blob.data,
        size: blob.size,
    };
    table.blobs().iter().map(spec).collect()
}

/// What a blob's tensor is called in a quantized file.
fn tensor_name(blob: &Blob) -> String {
    let tensor = match blob.tensor {
        TensorKind::AttnNorm => "attn_norm",
        TensorKind::Qkv => "qkv",
        TensorKind::AttnOutput => "attn_output",
        TensorKind::FfnNorm => "ffn_norm",
        TensorKind::GateUp => "gate_up",
        TensorKind::Down => "down",
        TensorKind::OutputNorm => "output_norm",
        TensorKind::LmHead => "lm_head",
    };
    let is_norm = matches!(blob.tensor, TensorKind::AttnNorm | TensorKind::FfnNorm | TensorKind::OutputNorm);
    match blob.part {
        Part::Weight if is_norm => tensor.to_owned(),
        Part::Weight => format!("{tensor}.weight"),
        Part::Int8 => format!("{tensor}.int8"),
        Part::Scale => format!("{tensor}.scale"),
        Part::Bias => format!("{tensor}.bias"),
    }
}

/// The position of the file that has a blob's tensor.
fn file_of(blob: &Blob, name: &str, table: &Path, files: &[TensorFile]) -> Result<usize, ConvertError> {
    if let Some(slot) = blob.slot {
        let index = slot as usize;
        return if index < files.len() {
            Ok(index)
        } else {
            Err(ConvertError::NoFile { table: table.to_owned(), slot, files: files.len() })
        };
    }
    let having: Vec<usize> = (0..files.len()).filter(|index| files[*index].has(name)).collect();
    match having[..] {
        [index] => Ok(index),
        _ => Err(ConvertError::NotOne {
            table: table.to_owned(),
            tensor: name.to_owned(),
            found: having.len(),
            files: files.len(),
        }),
    }
}

/// The element type of a blob's tensor.
fn dtype(blob: &Blob) -> Dtype {
    match blob.part {
        Part::Int8 => Dtype::I8,
        Part::Weight | Part::Scale | Part::Bias => Dtype::F16,
    }
}

fn check(blob: &Blob, file: &TensorFile, tensor: &TensorRef<'_>) -> Result<(), ConvertError> {
    let shape: Vec<u64> = tensor.shape().iter().map(|extent| *extent as u64).collect();
    if (tensor.dtype(), &shape, tensor.bytes()) == (dtype(blob), &blob.shape, blob.size) {
        return Ok(());
    }
    Err(ConvertError::Form {
        blob: blob.name.clone(),
        file: file.path().to_owned(),
        tensor: tensor.name().to_owned(),
        expected: format!("{} {:?}, {} bytes", dtype(blob), blob.shape, blob.size).into(),
        found: format!("{} {shape:?}, {} bytes", tensor.dtype(), tensor.bytes()).into(),
    })
}
