//! The residency gate: a shard must run on the Neural Engine.
//!
//! Core ML places every operation when it loads a program, and says nothing when it places one on the CPU: the answers are right and
//! several times slower. Two sources fill the same [`ResidencyReport`]:
//!
//! | source | is | from |
//! |---|---|---|
//! | `measured` | what a device will do | [`ComputePlan`]: Core ML's `MLComputePlan`, on a Mac |
//! | `predicted` | what others' measurements lead one to expect | [`rules()`], on any system |
//!
//! A prediction never poses as a measurement: its source is `predicted`, and so does every reason begin. How good the rules are is
//! measured against published placements (`tests/residency`); [`diff`] compares a prediction with a device's own
//! [`CalibrationRecord`]. `docs/residency.md` has the rules and the figures.

mod condition;
mod plan;
#[cfg(test)]
mod plan_tests;
mod predict;
mod record;
mod render;
mod report;
#[cfg(test)]
mod rule_tests;
mod rules;
mod target;
#[cfg(test)]
mod tests;
mod view;

pub use condition::{Axis, Condition, WeightForm};
pub use plan::{ComputePlan, PlanError, PlannedDevice, PlannedOp};
pub use predict::Subject;
pub use record::{CalibrationRecord, Difference, ResidencyDiff, diff};
pub use report::{
    Conflict, Device, OpPlacement, ReportTarget, ResidencyReport, RuleHit, SCHEMA, Side, Source,
};
pub use rules::{Confidence, Kind, KnownConflict, OsRange, Rule, Rules, Scope, rules};
pub use target::{Chip, Os, Target, UnknownTarget};

/// Predicts where `subject` runs on `target`. Looks at the program alone: no device, no weights.
/// Fails only if this program's own rules cannot be read.
pub fn predict(subject: &Subject<'_>, target: Target) -> Result<ResidencyReport, &'static str> {
    Ok(predict::predict(rules()?, subject, target))
}
