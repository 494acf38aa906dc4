//! What a bundle says of itself, as typed values.

use anepipe_artifacts::Digest;
use anepipe_pipeline::contract::Contract;
use anepipe_pipeline::gates::exact::{self, ExactReport};
use anepipe_pipeline::gates::golden::{self, GoldenReport};
use anepipe_pipeline::gates::parity;
use anepipe_pipeline::gates::residency::{self, ResidencyReport};
use anepipe_pipeline::stages::parity::JudgedReport;
use anepipe_pipeline::stages::quantize;
use anepipe_pipeline::verdict::Verdict;
use anepipe_runtime::bundle::manifest::{GateEntry, Manifest, Role, ShardEntry};
use anepipe_runtime::bundle::{Bundle, BundleError, MANIFEST_FILE};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ReportError;

/// Where in a bundle the reports lie, and how those of no gate begin.
const REPORTS: &str = "reports/";
const QUANTIZE: &str = "reports/quantize_";

/// The schema of a quantization report.
const QUANTIZE_SCHEMA: u32 = 1;

/// Everything a page is made of.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(super) manifest: Manifest,
    /// Of the manifest's bytes. It names every other file's digest, so it names the bundle.
    pub(super) digest: Digest,
    pub(super) contract: Contract,
    /// Whether it can be decoded with.
    pub(super) whole: bool,
    /// In the order of the manifest.
    pub(super) shards: Vec<Shard>,
    pub(super) golden: Option<GoldenReport>,
    pub(super) exact: Option<ExactReport>,
    pub(super) quantized: Vec<Quantized>,
}

/// A shard and its gates.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) entry: ShardEntry,
    /// What people call it: `layers 0..20`.
    pub(super) name: String,
    /// Of all its files.
    pub(super) bytes: u64,
    pub(super) parity: Option<JudgedReport>,
    pub(super) residency: Option<ResidencyReport>,
}

/// The errors of one file of weights.
#[derive(Debug)]
pub(super) struct Quantized {
    /// `layer 3`, `lm_head 0..2048`.
    pub(super) of: String,
    pub(super) report: quantize::Report,
}

impl Evidence {
    /// Reads the reports of a bundle whose files were checked. A report of an unknown form, one that the manifest contradicts,
    /// and one that nothing is known of are errors: a page that leaves something out would look complete.
    pub(crate) fn read(bundle: &Bundle) -> Result<Self, ReportError> {
        let reader = Reader { bundle };
        let manifest = bundle.manifest();
        let contract = Contract::deserialize(&manifest.contract)
            .map_err(|error| reader.unknown(MANIFEST_FILE, "model contract", error.to_string()))?;
        let whole = match bundle.parts() {
            Ok(_) => true,
            Err(BundleError::Partial { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        let mut evidence = Self {
            digest: Digest::of_bytes(&reader.bytes(MANIFEST_FILE)?),
            contract,
            whole,
            shards: manifest.shards.iter().map(|entry| shard(manifest, entry)).collect(),
            golden: None,
            exact: None,
            quantized: Vec::new(),
            manifest: manifest.clone(),
        };
        for gate in &manifest.gates {
            evidence.add(&reader, gate)?;
        }
        let known = |name: &str| manifest.gates.iter().any(|gate| gate.report == name);
        for name in manifest.files.keys().filter(|name| name.starts_with(REPORTS) && !known(name)) {
            let stem = name.strip_prefix(QUANTIZE).and_then(|rest| rest.strip_suffix(".json"));
            let stem = stem.ok_or_else(|| reader.unknown(name, "report", "no gate names it".to_owned()))?;
            let report = reader.report(name, "quantization report", QUANTIZE_SCHEMA)?;
            evidence.quantized.push(Quantized { of: named(stem), report });
        }
        Ok(evidence)
    }

    fn add(&mut self, reader: &Reader<'_>, gate: &GateEntry) -> Result<(), ReportError> {
        let GateEntry { kind, shard, report: file, .. } = gate;
        let what = format!("{kind} report");
        reader.check_verdict(gate, &what)?;
        let shard = match shard {
            None => None,
            Some(path) => {
                Some(self.shards.iter_mut().find(|shard| shard.entry.path == *path).ok_or_else(|| {
                    reader.contradiction(file, format!("it is about {path}, which is no shard of the bundle"))
                })?)
            }
        };
        let again = match (kind.as_str(), shard) {
            ("parity", Some(shard)) => {
                shard.parity.replace(reader.report(file, &what, parity::SCHEMA)?).is_some()
            }
            ("residency", Some(shard)) => {
                shard.residency.replace(reader.report(file, &what, residency::SCHEMA)?).is_some()
            }
            ("golden", None) => self.golden.replace(reader.report(file, &what, golden::SCHEMA)?).is_some(),
            ("exact", None) => self.exact.replace(reader.report(file, &what, exact::SCHEMA)?).is_some(),
            _ => return Err(reader.unknown(file, "report", format!("the manifest calls its gate {kind:?}"))),
        };
        if again {
            return Err(reader.contradiction(file, format!("there is another {what} of the same")));
        }
        Ok(())
    }
}

fn shard(manifest: &Manifest, entry: &ShardEntry) -> Shard {
    let folder = format!("{}/", entry.path);
    let files = manifest.files.range(folder.clone()..).take_while(|(name, _)| name.starts_with(&folder));
    Shard {
        entry: entry.clone(),
        name: format!("{} {}..{}", role(entry.role), entry.range[0], entry.range[1]),
        bytes: files.fold(0, |sum, (_, file)| sum.saturating_add(file.size)),
        parity: None,
        residency: None,
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Layers => "layers",
        Role::LmHead => "lm_head",
    }
}

/// `layer_003` as people say it. What is not of such a form is said as it stands.
fn named(stem: &str) -> String {
    let number = |digits: &str| digits.parse::<u64>().ok();
    if let Some(layer) = stem.strip_prefix("layer_").and_then(number) {
        return format!("layer {layer}");
    }
    let rows = stem.strip_prefix("lm_head_").and_then(|rows| rows.split_once('_'));
    match rows.and_then(|(start, end)| Some((number(start)?, number(end)?))) {
        Some((start, end)) => format!("lm_head {start}..{end}"),
        None => stem.replace('_', " "),
    }
}

/// Reads files of a bundle, and says of which bundle and file it speaks.
struct Reader<'a> {
    bundle: &'a Bundle,
}

/// What every report begins with.
#[derive(Deserialize)]
struct Schema {
    schema: u32,
}

impl Reader<'_> {
    fn bytes(&self, file: &str) -> Result<Vec<u8>, ReportError> {
        fs_err::read(self.bundle.resolve(file)?)
            .map_err(|source| ReportError::Io { bundle: self.bundle.root().to_owned(), source })
    }

    fn report<T: DeserializeOwned>(&self, file: &str, what: &str, schema: u32) -> Result<T, ReportError> {
        let bytes = self.bytes(file)?;
        let unknown = |error: serde_json::Error| self.unknown(file, what, error.to_string());
        let Schema { schema: found } = serde_json::from_slice(&bytes).map_err(unknown)?;
        if found != schema {
            return Err(self.unknown(file, what, format!("it has schema {found}, not {schema}")));
        }
        serde_json::from_slice(&bytes).map_err(unknown)
    }

    /// The manifest must say of a report what the report says.
    fn check_verdict(&self, gate: &GateEntry, what: &str) -> Result<(), ReportError> {
        let verdict = Verdict::of(&self.bytes(&gate.report)?)
            .map_err(|error| self.unknown(&gate.report, what, error.to_string()))?;
        let sources: &[&str] =
            if gate.kind == "residency" { &["measured", "predicted"] } else { &["measured"] };
        if !sources.contains(&verdict.source.as_str()) {
            return Err(self.unknown(&gate.report, what, format!("its source is {:?}", verdict.source)));
        }
        if (verdict.pass, &verdict.source) == (gate.pass, &gate.source) {
            return Ok(());
        }
        let said = |pass, source| format!("{}, {source}", if pass { "passed" } else { "did not pass" });
        let (report, manifest) = (said(verdict.pass, &verdict.source), said(gate.pass, &gate.source));
        Err(self.contradiction(&gate.report, format!("it says \"{manifest}\", and the report \"{report}\"")))
    }

    fn unknown(&self, file: &str, what: &str, reason: String) -> ReportError {
        let (bundle, file, what) = (self.bundle.root().to_owned(), file.to_owned(), what.to_owned());
        ReportError::Unknown { bundle, file, what, reason }
    }

    fn contradiction(&self, file: &str, reason: String) -> ReportError {
        ReportError::Contradiction { bundle: self.bundle.root().to_owned(), file: file.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_weights_are_called_as_people_call_them() {
        for (stem, name) in [
            ("layer_003", "layer 3"),
            ("lm_head_000_2048", "lm_head 0..2048"),
            ("output_norm", "output norm"),
            ("lm_head_x", "lm head x"),
            ("layer_", "layer "),
        ] {
            assert_eq!(named(stem), name);
        }
    }
}
