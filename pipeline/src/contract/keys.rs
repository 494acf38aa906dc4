//! Metadata keys, read with their names kept.

use std::fmt::Display;
use std::path::PathBuf;

use anepipe_gguf::{FromValue, Gguf, Value};

use super::{Architecture, ContractError, Sourced};

/// Keys of an architecture, without their prefix, that a contract reads or checks. A key that is not here may change
/// what the model computes, so it is refused.
const KNOWN: [&str; 23] = [
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "expert_used_count",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    // Says how the model was trained, not how it computes.
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    // Says how the file came about; the rows' order is fixed by the architecture.
    "tensor_data_layout",
    "vocab_size",
];

/// The keys of one file.
pub(super) struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: Architecture,
}

impl<'a> Keys<'a> {
    pub(super) fn new(gguf: &'a Gguf, architecture: Architecture) -> Self {
        Self { gguf, architecture }
    }

    pub(super) fn gguf(&self) -> &'a Gguf {
        self.gguf
    }

    pub(super) fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The file, for messages.
    pub(super) fn file(&self) -> PathBuf {
        file_of(self.gguf)
    }

    /// The full name of an architecture's key.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A key of the architecture that must be there.
    pub(super) fn require<T: FromValue<'a>>(&self, key: &str) -> Result<Sourced<T>, ContractError> {
        require(self.gguf, &self.name(key))
    }

    /// A key of the architecture that may be absent.
    pub(super) fn optional<T: FromValue<'a>>(&self, key: &str) -> Result<Option<Sourced<T>>, ContractError> {
        optional(self.gguf, &self.name(key))
    }

    /// A required integer above 0.
    pub(super) fn positive(&self, key: &str) -> Result<Sourced<u32>, ContractError> {
        let sourced: Sourced<u32> = self.require(key)?;
        if sourced.value == 0 {
            return Err(self.contradiction(sourced.source, "at least 1", 0));
        }
        Ok(sourced)
    }

    /// A required finite number above 0.
    pub(super) fn positive_f32(&self, key: &str) -> Result<Sourced<f32>, ContractError> {
        let sourced = self.require(key)?;
        self.check_positive(&sourced)?;
        Ok(sourced)
    }

    pub(super) fn check_positive(&self, sourced: &Sourced<f32>) -> Result<(), ContractError> {
        if sourced.value.is_finite() && sourced.value > 0.0 {
            return Ok(());
        }
        Err(self.contradiction(&sourced.source, "a finite number above 0", sourced.value))
    }

    /// Something that contradicts something else.
    pub(super) fn contradiction(
        &self,
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Display,
    ) -> ContractError {
        ContractError::Contradiction {
            file: self.file(),
            what: what.into(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// A key with a value that is not supported.
    pub(super) fn unsupported(
        &self,
        key: impl Into<String>,
        found: impl Display,
        supported: impl Into<String>,
    ) -> ContractError {
        unsupported(self.gguf, key, found, supported)
    }

    /// Refuses keys that may change what the model computes in ways that are not built.
    pub(super) fn refuse_unknown(&self) -> Result<(), ContractError> {
        let prefix = self.name("");
        for (key, value) in self.gguf.metadata().iter() {
            let Some(rest) = key.strip_prefix(&prefix) else { continue };
            if !KNOWN.contains(&rest) {
                return Err(self.unsupported(
                    key,
                    value_text(value),
                    "models without this key, which may change what the model computes",
                ));
            }
        }
        for key in ["expert_count", "expert_used_count"] {
            if let Some(Sourced { value, source }) = self.optional::<u32>(key)?
                && value > 0
            {
                return Err(self.unsupported(source, value, "0, a model without experts"));
            }
        }
        if let Some(Sourced { value: false, source }) = self.optional::<bool>("attention.causal")? {
            return Err(self.unsupported(source, false, "true, a model that writes from left to right"));
        }
        Ok(())
    }
}

pub(super) fn file_of(gguf: &Gguf) -> PathBuf {
    gguf.files().first().cloned().unwrap_or_default()
}

pub(super) fn require<'a, T: FromValue<'a>>(gguf: &'a Gguf, key: &str) -> Result<Sourced<T>, ContractError> {
    optional(gguf, key)?.ok_or_else(|| ContractError::MissingKey { file: file_of(gguf), key: key.to_owned() })
}

pub(super) fn optional<'a, T: FromValue<'a>>(
    gguf: &'a Gguf,
    key: &str,
) -> Result<Option<Sourced<T>>, ContractError> {
    Ok(gguf.metadata().optional(key)?.map(|value| Sourced::new(value, key)))
}

pub(super) fn unsupported(
    gguf: &Gguf,
    key: impl Into<String>,
    found: impl Display,
    supported: impl Into<String>,
) -> ContractError {
    ContractError::Unsupported {
        file: file_of(gguf),
        key: key.into(),
        found: found.to_string(),
        supported: supported.into(),
    }
}

/// A value in a few words.
fn value_text(value: &Value) -> String {
    match value {
        Value::Array(array) => format!("an array of {}", array.len()),
        Value::Bool(v) => v.to_string(),
        Value::F32(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        Value::String(text) => format!("\"{}\"", text.chars().take(40).collect::<String>()),
        other => other.as_integer().map_or_else(|| "there".to_owned(), |v| v.to_string()),
    }
}
