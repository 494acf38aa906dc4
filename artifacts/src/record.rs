//! The record of an action that ran: what it was and what it gave.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::Artifact;
use crate::key::{Key, KeyManifest};

/// The version of a record's shape.
pub const RECORD_SCHEMA: u32 = 1;

/// What an action was and what it gave. Kept at `ac/<aa>/<key>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRecord {
    /// The version of this shape, [`RECORD_SCHEMA`].
    pub schema: u32,
    /// The stage, as `quantize`.
    pub stage: String,
    /// What the stage worked on, as `layer 7`.
    pub subject: String,
    /// Everything the result depends on ([`KeyManifest`]); its digest is the key.
    pub key_manifest: Value,
    /// The results by name.
    pub outputs: BTreeMap<String, Artifact>,
    /// Figures for reports, as a weight error. Not part of any key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Value>,
    /// When it ended, in seconds since 1970.
    pub created: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl ActionRecord {
    /// A record of an action that ended now and took `elapsed`.
    pub fn new(
        manifest: &KeyManifest,
        subject: impl Into<String>,
        outputs: BTreeMap<String, Artifact>,
        elapsed: Duration,
    ) -> Self {
        let key_manifest = manifest.to_value();
        let stage = key_manifest.get("stage").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            schema: RECORD_SCHEMA,
            stage,
            subject: subject.into(),
            key_manifest,
            outputs,
            metrics: BTreeMap::new(),
            created: seconds_since_1970(SystemTime::now()),
            seconds: elapsed.as_secs_f64(),
        }
    }

    /// The key under which it belongs.
    pub fn key(&self) -> Key {
        Key::of(&self.key_manifest)
    }
}

pub(crate) fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
