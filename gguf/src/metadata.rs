//! A file's metadata: keys and values in file order, read by type.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::{Array, GgufError, Strings, Value};

/// The metadata of a model, in file order.
///
/// The typed getters read what the value says and never guess: an integer of any width is accepted where its value
/// fits, because writers differ in the width they choose; nothing else is converted, and no key has a default.
#[derive(Clone, Debug)]
pub struct Metadata {
    file: PathBuf,
    entries: IndexMap<Box<str>, Value>,
}

impl Metadata {
    pub(crate) fn new(file: &Path, entries: IndexMap<Box<str>, Value>) -> Self {
        Self { file: file.to_owned(), entries }
    }

    /// The value of `key`, if the file has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key` as a `T`: [`GgufError::Missing`] if there is none, [`GgufError::WrongType`] if it is not a
    /// `T`.
    pub fn read<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        let value = self
            .get(key)
            .ok_or_else(|| GgufError::Missing { file: self.file.clone(), key: key.to_owned() })?;
        T::from_value(value).ok_or_else(|| GgufError::WrongType {
            file: self.file.clone(),
            key: key.to_owned(),
            expected: T::EXPECTED,
            found: describe(value),
        })
    }

    /// Like [`Metadata::read`], with `None` for a key that the file does not have.
    pub fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        match self.read(key) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An integer that fits 32 bits.
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        self.read(key)
    }

    /// An integer that fits 64 bits.
    pub fn u64(&self, key: &str) -> Result<u64, GgufError> {
        self.read(key)
    }

    /// A 32-bit float.
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        self.read(key)
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        self.read(key)
    }

    /// A string.
    pub fn string(&self, key: &str) -> Result<&str, GgufError> {
        self.read(key)
    }

    /// An array of any element type.
    pub fn array(&self, key: &str) -> Result<&Array, GgufError> {
        self.read(key)
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<&Strings, GgufError> {
        self.read(key)
    }
}

/// What a value is, in a few words: its type, and its content where that is short.
pub(crate) fn describe(value: &Value) -> String {
    let kind = value.value_type();
    match value {
        Value::Array(array) => format!("an array of {} {}", array.len(), array.element_type()),
        Value::Bool(v) => format!("{kind} {v}"),
        Value::F32(v) => format!("{kind} {v}"),
        Value::F64(v) => format!("{kind} {v}"),
        Value::String(text) if text.len() <= 40 => format!("{kind} {text:?}"),
        Value::String(text) => format!("a {kind} of {} bytes", text.len()),
        other => other.as_integer().map_or_else(|| kind.to_string(), |v| format!("{kind} {v}")),
    }
}

/// A type that [`Metadata::read`] can make of a value.
pub trait FromValue<'a>: Sized + sealed::Sealed {
    /// What the value should be, with its article: "a string".
    const EXPECTED: &'static str;

    /// The value as this type, if it is that.
    fn from_value(value: &'a Value) -> Option<Self>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
    impl Sealed for i64 {}
    impl Sealed for f32 {}
    impl Sealed for bool {}
    impl<T: ?Sized> Sealed for &T {}
}

macro_rules! from_value {
    ($($type:ty, $expected:literal, $value:pat => $result:expr;)*) => {$(
        impl<'a> FromValue<'a> for $type {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &'a Value) -> Option<Self> {
                match value {
                    $value => $result,
                    #[allow(unreachable_patterns)] // the integers' pattern takes every value
                    _ => None,
                }
            }
        }
    )*};
}

from_value! {
    u32, "an integer of 0 to 2^32-1", v => v.as_integer()?.try_into().ok();
    u64, "an integer of 0 to 2^64-1", v => v.as_integer()?.try_into().ok();
    i64, "an integer of -2^63 to 2^63-1", v => v.as_integer()?.try_into().ok();
    f32, "a float32", Value::F32(v) => Some(*v);
    bool, "a bool", Value::Bool(v) => Some(*v);
    &'a str, "a string", Value::String(v) => Some(v);
    &'a Array, "an array", Value::Array(v) => Some(v);
    &'a Strings, "an array of strings", Value::Array(Array::String(v)) => Some(v);
    &'a [i32], "an array of int32", Value::Array(Array::I32(v)) => Some(v);
    &'a [u32], "an array of uint32", Value::Array(Array::U32(v)) => Some(v);
    &'a [f32], "an array of float32", Value::Array(Array::F32(v)) => Some(v);
}
