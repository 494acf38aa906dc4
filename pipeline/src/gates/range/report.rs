//! What the gate found, as data.

use serde::{Deserialize, Serialize};

use super::collect::{Collector, Key, Worst};
use super::limits::Limits;
use super::place::{Part, PartKind, Shard, What};

/// Version of the report's shape.
pub const SCHEMA: u32 = 1;

/// A bundle's range report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RangeReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The device that ran it.
    pub device: String,
    /// Prompts that were run.
    pub prompts: usize,
    /// Tokens of them.
    pub tokens: usize,
    /// What was demanded, and by whom.
    pub limits: Limits,
    /// The worst of every part of the model, in the order of a pass.
    pub layers: Vec<PartReport>,
    /// Values that are warned of.
    pub warnings: usize,
    /// Whether nothing failed.
    pub pass: bool,
    /// Why not, in one sentence; `null` when it passed.
    pub reason: Option<String>,
}

/// The worst of one layer, or of another part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartReport {
    /// File name of its shard.
    pub shard: String,
    /// What it is.
    pub part: PartKind,
    /// The layer's number in the model; `null` for other parts.
    pub layer: Option<u32>,
    /// The worst value of each kind.
    pub worst: Vec<Entry>,
}

/// The worst value of its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Of which kind.
    pub what: What,
    /// The operation, by its name in the shard's program; slots of layers are counted from the shard's first.
    pub operation: String,
    /// A magnitude, or what [`What`] says; `null` if it is infinite or NaN.
    pub value: Option<f64>,
    /// The prompt in which it occurred first.
    pub prompt: String,
    /// The token's position; `null` if the tensor is not one of tokens.
    pub position: Option<usize>,
    /// Which side of the limit is good.
    pub bound: Bound,
    /// The limit that the verdict is about.
    pub limit: f64,
    /// What comes of it.
    pub verdict: Verdict,
    /// Whether it lets the gate pass.
    pub pass: bool,
}

/// Which side of a limit is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The limit and above.
    AtLeast,
    /// The limit and below.
    AtMost,
}

/// What comes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing.
    Ok,
    /// It is said, and stops nothing.
    Warning,
    /// The gate fails.
    Failed,
}

impl RangeReport {
    /// The report of what `collector` saw of `prompts`, by their names.
    pub(super) fn new(device: &str, prompts: &[&str], tokens: usize, collector: &Collector) -> Self {
        let limits = Limits::default();
        let (worst, first_spoiled) = collector.found();
        let mut layers: Vec<PartReport> = Vec::new();
        let mut last = None;
        for (key, worst) in worst {
            let (shard, part, _) = key;
            if last != Some((shard, part)) {
                layers.push(part_report(collector, key));
                last = Some((shard, part));
            }
            if let Some(part) = layers.last_mut() {
                part.worst.push(Entry::new(key.2, worst, prompts, &limits));
            }
        }
        let all = || layers.iter().flat_map(|part| part.worst.iter().map(move |entry| (part, entry)));
        let first = first_spoiled.map(|(key, worst)| {
            let entry = Entry::new(key.2, worst, prompts, &limits);
            (part_report(collector, key), entry)
        });
        let first = first.or_else(|| {
            let failed = all().find(|(_, entry)| !entry.pass);
            failed.map(|(part, entry)| (PartReport { worst: Vec::new(), ..part.clone() }, entry.clone()))
        });
        let failures = all().filter(|(_, entry)| !entry.pass).count();
        Self {
            schema: SCHEMA,
            device: device.to_owned(),
            prompts: prompts.len(),
            tokens,
            warnings: all().filter(|(_, entry)| entry.verdict == Verdict::Warning).count(),
            pass: failures == 0,
            reason: first.map(|(part, entry)| super::render::reason(&part, &entry, failures)),
            limits,
            layers,
        }
    }
}

/// The part that `key` is about, with nothing in it.
fn part_report(collector: &Collector, (shard, part, _): Key) -> PartReport {
    let (path, held) = collector.shard(shard).unzip();
    let first = match held {
        Some(Shard::Layers(range)) => range.start,
        Some(Shard::Head(_)) | None => 0,
    };
    let (kind, layer) = match part {
        Part::Shared => (PartKind::Shared, None),
        Part::Layer(slot) => (PartKind::Layer, Some(first + slot)),
        Part::OutputNorm => (PartKind::OutputNorm, None),
        Part::LmHead => (PartKind::LmHead, None),
    };
    let name = path.and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy();
    PartReport { shard: name.into_owned(), part: kind, layer, worst: Vec::new() }
}

impl Entry {
    fn new(what: What, worst: Worst, prompts: &[&str], limits: &Limits) -> Self {
        let (bound, limit, verdict) = judge(what, worst.value, limits);
        Self {
            what,
            operation: worst.operation,
            value: worst.value,
            prompt: prompts.get(worst.prompt).copied().unwrap_or_default().to_owned(),
            position: worst.position,
            bound,
            limit,
            verdict,
            pass: verdict != Verdict::Failed,
        }
    }
}

/// What a value is held to, and what comes of it.
pub(super) fn judge(what: What, value: Option<f64>, limits: &Limits) -> (Bound, f64, Verdict) {
    let Some(value) = value else { return (Bound::AtMost, limits.fp16, Verdict::Failed) };
    let [quietest, loudest] = limits.norm.rms;
    let (bound, limit, beyond) = match what {
        What::Int8Input => (Bound::AtMost, limits.int8_input, Verdict::Failed),
        What::HalfInput | What::Stream | What::ConvolutionOutput | What::Scores | What::Other => {
            (Bound::AtMost, limits.int8_input, Verdict::Warning)
        }
        What::NormInput => (Bound::AtMost, limits.fp16, Verdict::Failed),
        What::NormSquares => (Bound::AtMost, limits.norm.squares, Verdict::Failed),
        What::NormRmsSmallest => (Bound::AtLeast, quietest, Verdict::Warning),
        What::NormRmsLargest => (Bound::AtMost, loudest, Verdict::Warning),
    };
    let met = match bound {
        Bound::AtLeast => value >= limit,
        Bound::AtMost => value <= limit,
    };
    (bound, limit, if met { Verdict::Ok } else { beyond })
}
