//! One spelling for each JSON value, so that equal values have equal digests.
//!
//! - UTF-8, no white space.
//! - An object's members are sorted by the bytes of their names.
//! - Strings are escaped as `serde_json` does it: `"`, `\` and control characters only.
//! - An integer in the range of `i64` or `u64` is written in decimal.
//! - A floating-point number is an `f64`. A whole one up to 2^53 is written like the integer it equals (`1.0` is `1`,
//!   `-0.0` is `0`), any other with the fewest digits that read back as the same `f64`, in scientific form (`1e-3`).
//!
//! JSON has no NaN or infinity, and `serde_json` turns both into `null`: a caller that cares must refuse them earlier.

use serde_json::{Number, Value};

/// The canonical spelling of `value`.
pub fn to_vec(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_value(value, &mut out);
    out
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // Sorted here, because a crate elsewhere in the build may switch serde_json to insertion order.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push(b'{');
            for (i, (name, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write_value(member, out);
            }
            out.push(b'}');
        }
    }
}

pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    // Display of a JSON string is its escaped form; it cannot fail, unlike a serializer over a general writer.
    out.extend_from_slice(Value::from(text).to_string().as_bytes());
}

fn write_number(number: &Number, out: &mut Vec<u8>) {
    /// Up to here every whole `f64` is one integer and only that one.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let text = if let Some(i) = number.as_i64() {
        i.to_string()
    } else if let Some(u) = number.as_u64() {
        u.to_string()
    } else {
        match number.as_f64() {
            Some(f) if f.fract() == 0.0 && f.abs() <= EXACT => (f as i64).to_string(),
            Some(f) => format!("{f:e}"),
            None => number.to_string(),
        }
    };
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(to_vec(value)).unwrap()
    }

    #[test]
    fn spelling() {
        for (value, expected) in [
            (json!({"b": 1, "a": [true, null, "x"]}), r#"{"a":[true,null,"x"],"b":1}"#),
            (json!({"é": 1, "z": 2, "Z": 3, "": 4}), r#"{"":4,"Z":3,"z":2,"é":1}"#),
            (
                json!("quote \" slash \\ tab \t bell \u{7} snow ☃"),
                r#""quote \" slash \\ tab \t bell \u0007 snow ☃""#,
            ),
            (json!([1.0, -0.0, 0.5, 1e-7, 1e300, 0.1]), "[1,0,5e-1,1e-7,1e300,1e-1]"),
            (json!([i64::MIN, u64::MAX]), "[-9223372036854775808,18446744073709551615]"),
            (json!(9_007_199_254_740_992.0), "9007199254740992"),
            (json!(9_007_199_254_740_994.0), "9.007199254740994e15"),
        ] {
            assert_eq!(text(&value), expected);
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Reading the spelling back gives a value with the same spelling: nothing is lost and nothing drifts.
        #[test]
        fn survives_being_read_back(value in values()) {
            let once = to_vec(&value);
            let read: Value = serde_json::from_slice(&once).unwrap();
            prop_assert_eq!(to_vec(&read), once);
        }

        /// The order in which members were added leaves no trace.
        #[test]
        fn ignores_the_order_of_members(members in prop::collection::btree_map(any::<String>(), any::<i64>(), 0..8)) {
            let forward: serde_json::Map<_, _> = members.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
            let backward: serde_json::Map<_, _> = members.iter().rev().map(|(k, v)| (k.clone(), json!(v))).collect();
            prop_assert_eq!(to_vec(&Value::Object(forward)), to_vec(&Value::Object(backward)));
        }

        /// Different numbers never share a spelling.
        #[test]
        fn keeps_numbers_apart(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite() && a.total_cmp(&b).is_ne() && a.abs() + b.abs() > 0.0);
            prop_assert_ne!(to_vec(&json!(a)), to_vec(&json!(b)));
        }
    }
}
