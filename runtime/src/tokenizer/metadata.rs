//! The tokenizer's file: a model's `tokenizer.` keys as JSON, read one key at a time.
//!
//! `{"schema": 1, "metadata": {"tokenizer.ggml.model": "gpt2", …}}`. Values stay text until they are asked for, so that an
//! error can name the key, and keys nobody asks for cost nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::TokenizerError;

const SCHEMA: u64 = 1;

/// The largest vocabularies in use (256 thousand tokens) take about 12 MB.
const MAX_BYTES: u64 = 128 << 20;

#[derive(Deserialize)]
struct File<'a> {
    schema: u64,
    #[serde(borrow)]
    metadata: BTreeMap<String, &'a RawValue>,
}

/// A string of a list, borrowed from the file where its JSON has no escapes: vocabularies have hundreds of thousands.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The keys and values of one file.
pub(super) struct Metadata<'a> {
    path: &'a Path,
    values: BTreeMap<String, &'a RawValue>,
}

/// All bytes of the file at `path`, if a tokenizer can be as large.
pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let file = fs_err::File::open(path)?;
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    // The limit holds whatever the size claims: a pipe has none.
    if size <= MAX_BYTES {
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    }
    let size = size.max(bytes.len() as u64);
    if size > MAX_BYTES {
        return Err(TokenizerError::TooLarge { path: path.to_owned(), size, limit: MAX_BYTES });
    }
    Ok(bytes)
}

impl<'a> Metadata<'a> {
    /// Finds the keys in `bytes`, the content of the file at `path`.
    pub(super) fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self, TokenizerError> {
        let not_metadata = |error: serde_json::Error| TokenizerError::NotMetadata {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let file: File<'a> = serde_json::from_slice(bytes).map_err(not_metadata)?;
        if file.schema != SCHEMA {
            return Err(TokenizerError::Schema {
                path: path.to_owned(),
                found: file.schema,
                expected: SCHEMA,
            });
        }
        Ok(Self { path, values: file.metadata })
    }

    /// The value of `key`; absent is `None`, another type an error.
    pub(super) fn optional<T: Deserialize<'a>>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, TokenizerError> {
        let Some(&value) = self.values.get(key) else { return Ok(None) };
        serde_json::from_str(value.get()).map(Some).map_err(|error| self.malformed(key, error.to_string()))
    }

    /// The value of `key`; absent or another type is an error.
    pub(super) fn required<T: Deserialize<'a>>(&self, key: &'static str) -> Result<T, TokenizerError> {
        self.optional(key)?.ok_or_else(|| TokenizerError::Missing { path: self.path.to_owned(), key })
    }

    /// The error that `key` holds what cannot be.
    pub(super) fn malformed(&self, key: &'static str, reason: String) -> TokenizerError {
        TokenizerError::Malformed { path: self.path.to_owned(), key, reason }
    }

    /// The error that `key` asks for what is not implemented.
    pub(super) fn unsupported(
        &self,
        key: &'static str,
        value: String,
        known: &'static str,
    ) -> TokenizerError {
        TokenizerError::Unsupported { path: self.path.to_owned(), key, value, known }
    }
}
