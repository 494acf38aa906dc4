//! A report for people: totals, then only what is off the Neural Engine or warned of, by rule.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use super::report::{Conflict, Device, OpPlacement, ResidencyReport, RuleHit, Source};
use super::rules::Confidence;

/// Kinds named in a line before it says how many more there are.
const MOST_KINDS: usize = 6;

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Predicted => "predicted",
            Self::Measured => "measured",
        })
    }
}

impl Display for Confidence {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        })
    }
}

impl Display for ResidencyReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (source, target) = (self.source, &self.target);
        let verdict = if self.pass { "ok" } else { "FAILED" };
        writeln!(
            f,
            "residency of {} on {}, macOS {}, {source}: {verdict}",
            self.shard, target.chip, target.os
        )?;
        writeln!(
            f,
            "  {source}: {} of {} convolutions on the Neural Engine",
            self.conv_ane, self.conv_total
        )?;
        writeln!(
            f,
            "  {source}: {} of {} operations on the Neural Engine",
            self.compute_ane, self.compute_total
        )?;
        if self.source == Source::Measured {
            self.measured_groups(f)?;
        }
        hits(f, "predicted off the Neural Engine:", &self.violations, &self.ops)?;
        hits(f, "warnings:", &self.warnings, &[])?;
        if !self.conflicts.is_empty() {
            writeln!(f, "where published sources contradict each other:")?;
        }
        for conflict in &self.conflicts {
            writeln!(f, "  {}", in_words(conflict))?;
        }
        if self.source == Source::Predicted {
            writeln!(
                f,
                "This is a prediction by published rules. Only a compute plan of the device is a measurement."
            )?;
        }
        Ok(())
    }
}

impl ResidencyReport {
    /// One line: the verdict, and for a shard that failed, why.
    pub fn summary(&self) -> String {
        match &self.reason {
            Some(reason) => reason.clone(),
            None => format!(
                "{}: {}: all {} operations on the Neural Engine{}",
                self.source,
                self.shard,
                self.compute_total,
                if self.warnings.is_empty() {
                    String::new()
                } else {
                    format!(", {} warnings", self.warnings.len())
                }
            ),
        }
    }

    /// Measured operations off the Neural Engine, by reason, with their kinds.
    fn measured_groups(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut groups: BTreeMap<&str, Vec<&OpPlacement>> = BTreeMap::new();
        for op in self.ops.iter().filter(|op| op.device != Device::Ane) {
            groups.entry(op.reason.as_deref().unwrap_or_default()).or_default().push(op);
        }
        if !groups.is_empty() {
            writeln!(f, "measured off the Neural Engine:")?;
        }
        for (reason, ops) in groups {
            writeln!(f, "  {}: {}", kinds(ops.into_iter()), reason)?;
        }
        Ok(())
    }
}

fn hits(f: &mut Formatter<'_>, title: &str, hits: &[RuleHit], ops: &[OpPlacement]) -> fmt::Result {
    if !hits.is_empty() {
        writeln!(f, "{title}")?;
    }
    for hit in hits {
        writeln!(f, "  {}: {}: {}", hit.rule, count(hit.ops), hit.found)?;
        writeln!(f, "    {}", hit.reason)?;
        writeln!(f, "    source ({} confidence): {}", hit.confidence, hit.source)?;
        let decided = ops.iter().filter(|op| op.rule.as_deref() == Some(&hit.rule));
        let number = decided.clone().count();
        if number > 0 && number < ops.len() {
            writeln!(f, "    decides: {}", kinds(decided))?;
        }
    }
    Ok(())
}

fn in_words(conflict: &Conflict) -> String {
    let sides: Vec<String> =
        conflict.sides.iter().map(|side| format!("{} ({})", side.says, side.source)).collect();
    let winner = conflict.sides.get(conflict.decides).map_or("", |side| side.says.as_str());
    format!(
        "{} (raised by {}): {}\n    the verdict follows \"{winner}\": {}",
        conflict.id,
        conflict.rule,
        sides.join(" / "),
        conflict.why
    )
}

fn count(ops: usize) -> String {
    format!("{ops} {}", if ops == 1 { "operation" } else { "operations" })
}

/// Kinds with how often they occur, the most frequent first.
fn kinds<'a>(ops: impl Iterator<Item = &'a OpPlacement>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for op in ops {
        *counts.entry(&op.kind).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(kind, count)| (std::cmp::Reverse(count), kind));
    let more = counts.len().saturating_sub(MOST_KINDS);
    let mut words: Vec<String> =
        counts.iter().take(MOST_KINDS).map(|(kind, count)| format!("{count} {kind}")).collect();
    if more > 0 {
        words.push(format!("and {more} more kinds"));
    }
    words.join(", ")
}
