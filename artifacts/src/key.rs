//! What identifies an action: its key, and the manifest that the key is the digest of.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::canonical;
use crate::digest::{Digest, NotADigest};

/// The version of the manifest's own shape.
pub const KEY_SCHEMA: u32 = 1;

/// The key of an action: the digest of its manifest's canonical JSON ([`canonical`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Digest);

impl Key {
    /// The key of this manifest.
    pub fn of(manifest: &Value) -> Self {
        Self(Digest::of_bytes(&canonical::to_vec(manifest)))
    }

    /// The digest that the key is.
    pub const fn digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Key {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        text.parse().map(Self)
    }
}

/// Everything an action's result depends on.
///
/// As JSON: `{"schema":1,"stage":"quantize","code":3,"parameters":{…},"inputs":{"name":"<digest>"},"environment":{…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyManifest {
    schema: u32,
    stage: String,
    code: u32,
    parameters: Map<String, Value>,
    inputs: BTreeMap<String, Digest>,
    environment: Map<String, Value>,
}

impl KeyManifest {
    /// A manifest of stage `stage`, whose code declares itself as version `code`.
    pub fn new(stage: impl Into<String>, code: u32) -> Self {
        Self {
            schema: KEY_SCHEMA,
            stage: stage.into(),
            code,
            parameters: Map::new(),
            inputs: BTreeMap::new(),
            environment: Map::new(),
        }
    }

    /// Adds a parameter; a later one of the same name replaces it.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Adds an input by its content; a later one of the same name replaces it.
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, digest: Digest) -> Self {
        self.inputs.insert(name.into(), digest);
        self
    }

    /// Adds a fact about the tools the stage runs with; a later one of the same name replaces it.
    #[must_use]
    pub fn environment(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// The manifest as a JSON value.
    pub fn to_value(&self) -> Value {
        let inputs: Map<_, _> = self.inputs.iter().map(|(n, d)| (n.clone(), d.to_string().into())).collect();
        let mut value = Map::new();
        value.insert("schema".into(), self.schema.into());
        value.insert("stage".into(), self.stage.clone().into());
        value.insert("code".into(), self.code.into());
        value.insert("parameters".into(), self.parameters.clone().into());
        value.insert("inputs".into(), inputs.into());
        value.insert("environment".into(), self.environment.clone().into());
        Value::Object(value)
    }

    /// The action's key.
    pub fn key(&self) -> Key {
        Key::of(&self.to_value())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest() -> KeyManifest {
        KeyManifest::new("quantize", 3)
            .parameter("bits", 8)
            .input("layer", Digest::of_bytes(b"layer"))
            .environment("anepipe", "0.1.0")
    }

    #[test]
    fn has_the_documented_shape() {
        let expected = json!({
            "schema": 1, "stage": "quantize", "code": 3, "parameters": {"bits": 8},
            "inputs": {"layer": Digest::of_bytes(b"layer")}, "environment": {"anepipe": "0.1.0"},
        });
        assert_eq!(manifest().to_value(), expected);
        assert_eq!(serde_json::to_value(manifest()).unwrap(), expected);
        assert_eq!(serde_json::from_value::<KeyManifest>(expected).unwrap(), manifest());
    }

    /// The keys of caches in the field: a change of this value makes every one of them useless.
    #[test]
    fn key_is_pinned() {
        let text = r#"{"code":3,"environment":{},"inputs":{},"parameters":{"bits":8},"schema":1,"stage":"quantize"}"#;
        let key = KeyManifest::new("quantize", 3).parameter("bits", 8).key();
        assert_eq!(key.digest(), &Digest::of_bytes(text.as_bytes()));
    }

    #[test]
    fn every_part_counts() {
        let base = manifest().key();
        for (what, other) in [
            ("stage", KeyManifest { stage: "x".into(), ..manifest() }),
            ("code", KeyManifest { code: 4, ..manifest() }),
            ("parameter", manifest().parameter("bits", 4)),
            ("added parameter", manifest().parameter("more", Value::Null)),
            ("input", manifest().input("layer", Digest::of_bytes(b"other"))),
            ("environment", manifest().environment("anepipe", "0.2.0")),
        ] {
            assert_ne!(other.key(), base, "{what} is not part of the key");
        }
    }
}
