//! Why an action runs again: the difference between two key manifests, in typed reasons.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// One reason why an action has to run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Reason {
    /// An input's content changed, appeared or went away.
    Input(Change),
    /// The stage's code, or the shape of the manifest itself, has another version.
    Code(Change),
    /// A parameter changed; the name of a nested one is dotted.
    Parameter(Change),
    /// A tool or another fact about the machine changed.
    Environment(Change),
    /// Nothing changed, but there is no usable result: it never ran, or the result was collected or damaged.
    Missing,
    /// The user asked for it.
    Forced,
}

/// A named value, before and after. `None`: not there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The name of what changed.
    pub name: String,
    /// Its value in the last run.
    pub old: Option<Value>,
    /// Its value now.
    pub new: Option<Value>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(change) => write!(f, "input {change}"),
            Self::Code(change) => write!(f, "code {change}"),
            Self::Parameter(change) => write!(f, "parameter {change}"),
            Self::Environment(change) => write!(f, "environment {change}"),
            Self::Missing => f.write_str("no result in the cache"),
            Self::Forced => f.write_str("forced"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, old, new } = self;
        match (old, new) {
            (Some(old), Some(new)) => write!(f, "`{name}` changed: {} to {}", Brief(old), Brief(new)),
            (None, Some(new)) => write!(f, "`{name}` was added: {}", Brief(new)),
            (Some(old), None) => write!(f, "`{name}` went away: {}", Brief(old)),
            (None, None) => write!(f, "`{name}`"),
        }
    }
}

/// A value for people: a digest by its first eight characters, anything long cut.
struct Brief<'a>(&'a Value);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 60;
        if let Value::String(text) = self.0
            && let Ok(digest) = text.parse::<crate::Digest>()
        {
            return f.write_str(&digest.short());
        }
        let text = self.0.to_string();
        match text.char_indices().nth(LONGEST) {
            Some((cut, _)) => write!(f, "{}…", text.get(..cut).unwrap_or_default()),
            None => f.write_str(&text),
        }
    }
}

/// What differs between the manifest of the last run and the one of now. [`Reason::Missing`] alone if nothing does, or
/// if `old` is no manifest (`null`: there was no last run).
pub fn explain(old: &Value, new: &Value) -> Vec<Reason> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return vec![Reason::Missing] };
    let mut reasons = Vec::new();
    for name in ["schema", "stage", "code"] {
        compare(name, old.get(name), new.get(name), &mut |change| reasons.push(Reason::Code(change)));
    }
    let part = |name: &str, reason: fn(Change) -> Reason, reasons: &mut Vec<Reason>| {
        let empty = Map::new();
        let of = |manifest: &Map<String, Value>| {
            manifest.get(name).and_then(Value::as_object).cloned().unwrap_or_else(|| empty.clone())
        };
        compare_maps("", &of(old), &of(new), &mut |change| reasons.push(reason(change)));
    };
    part("inputs", Reason::Input, &mut reasons);
    part("parameters", Reason::Parameter, &mut reasons);
    part("environment", Reason::Environment, &mut reasons);
    if reasons.is_empty() {
        reasons.push(Reason::Missing);
    }
    reasons
}

fn compare_maps(
    prefix: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    found: &mut dyn FnMut(Change),
) {
    let mut names: Vec<&String> =
        old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))).collect();
    names.sort_unstable();
    for name in names {
        compare(&format!("{prefix}{name}"), old.get(name), new.get(name), found);
    }
}

fn compare(name: &str, old: Option<&Value>, new: Option<&Value>, found: &mut dyn FnMut(Change)) {
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            compare_maps(&format!("{name}."), old, new, found);
        }
        // Compared by spelling, as the key does: 1 and 1.0 are the same.
        (Some(old), Some(new)) if crate::canonical::to_vec(old) == crate::canonical::to_vec(new) => {}
        (None, None) => {}
        (old, new) => found(Change { name: name.to_owned(), old: old.cloned(), new: new.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Digest, KeyManifest};

    fn base() -> KeyManifest {
        KeyManifest::new("quantize", 3)
            .parameter("block", 4)
            .parameter("scheme", json!({"bits": 8, "axis": [0]}))
            .input("layer", Digest::of_bytes(b"one"))
            .environment("python", "3.12")
    }

    fn said(new: &KeyManifest) -> Vec<String> {
        explain(&base().to_value(), &new.to_value()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_what_changed() {
        let [one, two] = [b"one", b"two"].map(|b| Digest::of_bytes(b));
        for (new, expected) in [
            (base(), "no result in the cache".to_owned()),
            (base().parameter("block", 4.0), "no result in the cache".to_owned()),
            (base().parameter("block", 8), "parameter `block` changed: 4 to 8".to_owned()),
            (
                base().parameter("scheme", json!({"bits": 4, "axis": [0]})),
                "parameter `scheme.bits` changed: 8 to 4".to_owned(),
            ),
            (base().parameter("more", "x"), "parameter `more` was added: \"x\"".to_owned()),
            (
                base().input("layer", two),
                format!("input `layer` changed: {} to {}", one.short(), two.short()),
            ),
            (base().input("norm", two), format!("input `norm` was added: {}", two.short())),
            (
                base().environment("python", "3.13"),
                "environment `python` changed: \"3.12\" to \"3.13\"".to_owned(),
            ),
        ] {
            assert_eq!(said(&new), [expected]);
        }
        let newer = KeyManifest::new("quantize", 4);
        assert_eq!(said(&newer)[0], "code `code` changed: 3 to 4");
        assert!(said(&newer).contains(&format!("input `layer` went away: {}", one.short())));
    }

    #[test]
    fn a_first_run_is_missing() {
        assert_eq!(explain(&Value::Null, &base().to_value()), [Reason::Missing]);
    }

    #[test]
    fn is_machine_readable() {
        let reasons = explain(&base().to_value(), &base().parameter("block", 8).to_value());
        assert_eq!(
            serde_json::to_value(reasons).unwrap(),
            json!([{"kind": "parameter", "name": "block", "old": 4, "new": 8}])
        );
    }
}
