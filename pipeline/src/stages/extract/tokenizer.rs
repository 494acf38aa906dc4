//! Tokenizer metadata as JSON.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anepipe_artifacts::{Digest, HashingWriter};
use anepipe_gguf::{Array, Gguf, Value};
use serde::{Serialize, Serializer};

use super::ExtractError;
use crate::whole::WholeFile;

/// The file: `{"schema": 1, "metadata": {key: value, …}}`.
#[derive(Serialize)]
struct Tokenizer<'a> {
    schema: u32,
    metadata: BTreeMap<&'a str, Json<'a>>,
}

/// Writes every `tokenizer.` key of the model as JSON, sorted, under its own name: numbers as numbers, arrays as arrays.
pub fn extract_tokenizer(gguf: &Gguf, output: &Path) -> Result<(), ExtractError> {
    let io = |source| ExtractError::Write { path: output.to_owned(), source };
    let file = WholeFile::create(output).map_err(io)?;
    let mut out = BufWriter::new(file.as_file());
    write(gguf, &mut out).and_then(|()| out.flush()).map_err(io)?;
    drop(out);
    file.commit().map_err(io)
}

/// The digest of what [`extract_tokenizer`] would write, and so of all that it reads: the same for every model file with
/// the same tokenizer.
pub fn tokenizer_digest(gguf: &Gguf) -> Result<Digest, ExtractError> {
    let mut hasher = HashingWriter::new(io::sink());
    let mut out = BufWriter::new(&mut hasher);
    let path = || gguf.files().first().cloned().unwrap_or_default();
    let written = write(gguf, &mut out).and_then(|()| out.flush());
    written.map_err(|source| ExtractError::Write { path: path(), source })?;
    drop(out);
    Ok(hasher.into_parts().1)
}

fn write(gguf: &Gguf, out: &mut impl Write) -> io::Result<()> {
    let keys = gguf.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer."));
    let tokenizer = Tokenizer { schema: 1, metadata: keys.map(|(key, value)| (key, Json(value))).collect() };
    Ok(serde_json::to_writer(out, &tokenizer)?)
}

/// A metadata value that serializes as what it holds.
struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::U8(v) => v.serialize(serializer),
            Value::I8(v) => v.serialize(serializer),
            Value::U16(v) => v.serialize(serializer),
            Value::I16(v) => v.serialize(serializer),
            Value::U32(v) => v.serialize(serializer),
            Value::I32(v) => v.serialize(serializer),
            Value::U64(v) => v.serialize(serializer),
            Value::I64(v) => v.serialize(serializer),
            Value::F32(v) => v.serialize(serializer),
            Value::F64(v) => v.serialize(serializer),
            Value::Bool(v) => v.serialize(serializer),
            Value::String(v) => v.serialize(serializer),
            Value::Array(v) => JsonArray(v).serialize(serializer),
        }
    }
}

struct JsonArray<'a>(&'a Array);

impl Serialize for JsonArray<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Array::U8(v) => v.serialize(serializer),
            Array::I8(v) => v.serialize(serializer),
            Array::U16(v) => v.serialize(serializer),
            Array::I16(v) => v.serialize(serializer),
            Array::U32(v) => v.serialize(serializer),
            Array::I32(v) => v.serialize(serializer),
            Array::U64(v) => v.serialize(serializer),
            Array::I64(v) => v.serialize(serializer),
            Array::F32(v) => v.serialize(serializer),
            Array::F64(v) => v.serialize(serializer),
            Array::Bool(v) => v.serialize(serializer),
            Array::String(v) => serializer.collect_seq(v.iter()),
            Array::Array(v) => serializer.collect_seq(v.iter().map(JsonArray)),
        }
    }
}
