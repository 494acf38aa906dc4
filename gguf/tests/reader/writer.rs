//! The test kit's writer gives gguf-py's bytes, so what is tested with it is tested with the real thing.

use anepipe_gguf::{Array, Gguf, Tensor, Value};
use anepipe_testkit::{GgufWriter, Value as Out, ValueKind};

use crate::fixture;

fn scalar(value: &Value) -> Out {
    match value {
        Value::U8(v) => (*v).into(),
        Value::I8(v) => (*v).into(),
        Value::U16(v) => (*v).into(),
        Value::I16(v) => (*v).into(),
        Value::U32(v) => (*v).into(),
        Value::I32(v) => (*v).into(),
        Value::F32(v) => (*v).into(),
        Value::Bool(v) => (*v).into(),
        Value::String(v) => (&**v).into(),
        Value::Array(v) => array(v),
        Value::U64(v) => (*v).into(),
        Value::I64(v) => (*v).into(),
        Value::F64(v) => (*v).into(),
    }
}

fn array(array: &Array) -> Out {
    match array {
        Array::U8(v) => v.clone().into(),
        Array::I8(v) => v.clone().into(),
        Array::U16(v) => v.clone().into(),
        Array::I16(v) => v.clone().into(),
        Array::U32(v) => v.clone().into(),
        Array::I32(v) => v.clone().into(),
        Array::F32(v) => v.clone().into(),
        Array::Bool(v) => v.clone().into(),
        Array::String(v) => v.iter().map(str::to_owned).collect::<Vec<_>>().into(),
        Array::Array(v) => Out::Array(ValueKind::Array, v.iter().map(self::array).collect()),
        Array::U64(v) => v.clone().into(),
        Array::I64(v) => v.clone().into(),
        Array::F64(v) => v.clone().into(),
    }
}

/// A writer that holds what `model` holds.
fn again(model: &Gguf) -> GgufWriter {
    let mut writer = GgufWriter::new().version(model.version());
    for (key, value) in model.metadata().iter().filter(|(key, _)| !key.starts_with("split.")) {
        writer = match key {
            "general.alignment" => writer.alignment(model.alignment() as u32),
            _ => writer.meta(key, scalar(value)),
        };
    }
    let copy = |writer: GgufWriter, t: Tensor<'_>| {
        writer.tensor(t.name(), t.dims(), t.dtype().id(), t.bytes().to_vec())
    };
    model.tensors().fold(writer, copy)
}

#[test]
fn a_file_read_and_written_again_is_the_same() {
    for name in ["types.gguf", "values.gguf"] {
        assert!(
            again(&fixture::open(name)).to_bytes() == std::fs::read(fixture::path(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_split_model_read_and_written_again_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture::open("split-00001-of-00003.gguf");
    let written = again(&model).write_split(dir.path(), "split", 2).unwrap();
    assert_eq!(written.len(), 3);
    for (written, original) in written.iter().zip(model.files()) {
        assert_eq!(written.file_name(), original.file_name());
        assert!(std::fs::read(written).unwrap() == std::fs::read(original).unwrap(), "{}", written.display());
    }
}
