//! `analytics/coremldata.bin`: two named sections of keys and values. Strings are u64 length and bytes, a section is
//! its name, u64 count and the pairs; everything is little-endian.

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

/// The sections for the model file `model_bytes`, whose file name without extension is `model_name`.
pub(super) fn bytes(model_bytes: &[u8], model_name: &str) -> Vec<u8> {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(model_bytes));
    let mut out = Vec::new();
    section(&mut out, "NeuralNetworkModelDetails", &[("containsCustomLayer", "0"), ("modelDimension", "0")]);
    section(&mut out, "SpecificationDetails", &[("modelHash", &hash), ("modelName", model_name)]);
    out
}

fn section(out: &mut Vec<u8>, name: &str, pairs: &[(&str, &str)]) {
    string(out, name);
    out.extend_from_slice(&(pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        string(out, key);
        string(out, value);
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
