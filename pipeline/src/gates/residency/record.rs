//! What a device did with a program, kept to hold predictions to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::ComputePlan;
use super::report::{Device, ResidencyReport};

/// Version of the record's shape.
const SCHEMA: u32 = 1;

/// A program, a machine, and where each operation went: what a Mac writes and predictions are calibrated on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationRecord {
    /// Version of this shape, 1.
    pub schema: u32,
    /// blake3 of the compiled program's `model.mil`.
    pub program: String,
    /// The plan as the device gave it, the machine included.
    pub plan: ComputePlan,
}

impl CalibrationRecord {
    /// Keeps what `plan` says about the program with this digest.
    pub fn new(program: String, plan: ComputePlan) -> Self {
        Self { schema: SCHEMA, program, plan }
    }

    /// The measured report of the shard that reports call `shard`.
    pub fn report(&self, shard: &str) -> ResidencyReport {
        self.plan.report(shard)
    }
}

/// One operation that a prediction and a measurement place differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The function it stands in.
    pub function: String,
    /// Its name.
    pub name: String,
    /// Operator.
    pub kind: String,
    /// Where it was expected.
    pub predicted: Device,
    /// Where it went.
    pub measured: Device,
    /// The rule that was wrong, if one spoke.
    pub rule: Option<String>,
}

/// A prediction held to a measurement. What the gate looks for is an operation *off* the Neural Engine, so that is what counts as
/// found, missed or a false alarm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidencyDiff {
    /// On the Neural Engine in both.
    pub both_on: usize,
    /// Off it in both.
    pub found: usize,
    /// Off it, and expected on it: the expensive mistakes.
    pub missed: Vec<Difference>,
    /// On it, and expected off it.
    pub false_alarms: Vec<Difference>,
    /// Operations of the prediction that the measurement does not have.
    pub only_predicted: usize,
    /// Operations of the measurement that the prediction does not have.
    pub only_measured: usize,
}

impl ResidencyDiff {
    /// Of what was expected off the Neural Engine, the share that is; none if nothing was expected off it.
    pub fn precision(&self) -> Option<f64> {
        share(self.found, self.found + self.false_alarms.len())
    }

    /// Of what is off the Neural Engine, the share that was expected; none if nothing is off it.
    pub fn recall(&self) -> Option<f64> {
        share(self.found, self.found + self.missed.len())
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Compares two reports of one program, operation by operation, by function and name. Operations of the same name are taken in order.
pub fn diff(predicted: &ResidencyReport, measured: &ResidencyReport) -> ResidencyDiff {
    let mut left: BTreeMap<(&str, &str), Vec<Device>> = BTreeMap::new();
    for op in measured.ops.iter().rev() {
        left.entry((&op.function, &op.name)).or_default().push(op.device);
    }
    let mut result = ResidencyDiff::default();
    for op in &predicted.ops {
        let Some(device) = left.get_mut(&(op.function.as_str(), op.name.as_str())).and_then(Vec::pop) else {
            result.only_predicted += 1;
            continue;
        };
        let difference = || Difference {
            function: op.function.clone(),
            name: op.name.clone(),
            kind: op.kind.clone(),
            predicted: op.device,
            measured: device,
            rule: op.rule.clone(),
        };
        match (op.device == Device::Ane, device == Device::Ane) {
            (true, true) => result.both_on += 1,
            (false, false) => result.found += 1,
            (true, false) => result.missed.push(difference()),
            (false, true) => result.false_alarms.push(difference()),
        }
    }
    result.only_measured = left.values().map(Vec::len).sum();
    result
}
