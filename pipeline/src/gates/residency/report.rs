//! Where each operation of a program runs, or is expected to run, as data.

use serde::{Deserialize, Serialize};

use super::rules::{Confidence, Kind};

/// Version of the report's shape.
pub const SCHEMA: u32 = 1;

/// A shard's residency report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResidencyReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The shard.
    pub shard: String,
    /// Whether a device said so, or rules expect so.
    pub source: Source,
    /// The machine.
    pub target: ReportTarget,
    /// Convolutions.
    pub conv_total: usize,
    /// Those on the Neural Engine.
    pub conv_ane: usize,
    /// Those that are not.
    pub conv_non_ane: usize,
    /// Operations that compute: neither `const` nor `constexpr_…`.
    pub compute_total: usize,
    /// Those on the Neural Engine.
    pub compute_ane: usize,
    /// Those that are not.
    pub compute_non_ane: usize,
    /// Whether there are operations and all of them are on the Neural Engine.
    pub pass: bool,
    /// Why not, in one sentence; `null` when it passed.
    pub reason: Option<String>,
    /// Every operation that computes, in order.
    pub ops: Vec<OpPlacement>,
    /// Hard rules that the program breaks, in the order in which they decide. Empty in a measured report.
    pub violations: Vec<RuleHit>,
    /// What may keep the program off the Neural Engine, or makes it slow or wrong there, and decides nothing.
    pub warnings: Vec<RuleHit>,
    /// Where published sources contradict each other about something this program does.
    pub conflicts: Vec<Conflict>,
}

/// Where a report's placements come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// From rules: an expectation.
    Predicted,
    /// From a device's compute plan.
    Measured,
}

/// The machine a report is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportTarget {
    /// The chip: a rule name (`m4`) in a prediction, what the machine calls itself in a measurement.
    pub chip: String,
    /// macOS: its number in a prediction, version and build in a measurement.
    pub os: String,
}

/// A processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The Neural Engine.
    Ane,
    /// The GPU.
    Gpu,
    /// The CPU.
    Cpu,
    /// A compute plan names no processor for the operation.
    None,
}

impl Device {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ane => "ane",
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::None => "none",
        }
    }
}

/// Where one operation runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpPlacement {
    /// The function it stands in.
    pub function: String,
    /// Its first result; its operator if it has none.
    pub name: String,
    /// Operator, without the operator set: `conv`.
    pub kind: String,
    /// The processor.
    pub device: Device,
    /// Processors that can run it. In a prediction only what rules speak of: the CPU, and the Neural Engine or not.
    pub supported_devices: Vec<Device>,
    /// The rule that decided; `null` on the Neural Engine.
    pub rule: Option<String>,
    /// Why, in plain words; `null` on the Neural Engine.
    pub reason: Option<String>,
    /// Who says so; `null` on the Neural Engine.
    pub source: Option<String>,
}

/// A rule that applies to a program, and to how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleHit {
    /// The rule's id.
    pub rule: String,
    /// Whether it decides.
    pub kind: Kind,
    /// Operations concerned.
    pub ops: usize,
    /// What was found, at the first place.
    pub found: String,
    /// Why it matters, in plain words.
    pub reason: String,
    /// Who says so.
    pub source: String,
    /// How sure that is.
    pub confidence: Confidence,
}

/// Published sources that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Its name.
    pub id: String,
    /// The rule of this program that raised it.
    pub rule: String,
    /// What each source says.
    pub sides: Vec<Side>,
    /// Which side the verdict follows: the index into `sides`.
    pub decides: usize,
    /// Why that one.
    pub why: String,
}

/// One source's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// What it says.
    pub says: String,
    /// Who says it.
    pub source: String,
}

impl ResidencyReport {
    /// Counts `ops` and gives the verdict. Sentences about what is wrong are the caller's.
    pub(super) fn count(shard: &str, source: Source, target: ReportTarget, ops: Vec<OpPlacement>) -> Self {
        let is_conv = |op: &&OpPlacement| op.kind == "conv";
        let on = |op: &&OpPlacement| op.device == Device::Ane;
        let (compute_total, compute_ane) = (ops.len(), ops.iter().filter(on).count());
        let conv_total = ops.iter().filter(is_conv).count();
        let conv_ane = ops.iter().filter(is_conv).filter(on).count();
        let pass = compute_total > 0 && compute_ane == compute_total;
        Self {
            schema: SCHEMA,
            shard: shard.to_owned(),
            source,
            target,
            conv_total,
            conv_ane,
            conv_non_ane: conv_total - conv_ane,
            compute_total,
            compute_ane,
            compute_non_ane: compute_total - compute_ane,
            pass,
            reason: None,
            ops,
            violations: Vec::new(),
            warnings: Vec::new(),
            conflicts: Vec::new(),
        }
    }
}
