//! From a program to what is expected of it: every rule asked of every function and operation, then a verdict.

use anepipe_mil::Program;

use super::report::{Conflict, Device, OpPlacement, ReportTarget, ResidencyReport, RuleHit, Source};
use super::rules::{Kind, Rule, Rules, Scope};
use super::target::Target;
use super::view::{View, views};

/// What a prediction looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What reports call the shard, such as `layers 0..20`.
    pub name: &'a str,
    /// Its program.
    pub program: &'a Program,
    /// Bytes of its weight files, if they are there; otherwise they are reckoned from the types of what the program refers to.
    pub weight_bytes: Option<u64>,
}

/// One rule and what it found: in the function as a whole, or at operations by their index.
struct Found<'a> {
    rule: &'a Rule,
    /// What was found first.
    what: String,
    /// The operations concerned; all of them for a rule of scope `program`.
    ops: Vec<usize>,
}

/// Applies `rules` to `subject`.
pub(super) fn predict(rules: &Rules, subject: &Subject<'_>, target: Target) -> ResidencyReport {
    let bytes = subject.weight_bytes.unwrap_or_else(|| weight_bytes(subject.program));
    let mut placements = Vec::new();
    let mut hits: Vec<(usize, RuleHit)> = Vec::new();
    for view in views(subject.program, bytes) {
        let found: Vec<(usize, Found<'_>)> = rules
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.holds_for(target))
            .filter_map(|(order, rule)| Some((order, ask(rule, &view)?)))
            .collect();
        placements.extend(place(&view, &found));
        for (order, found) in found {
            merge(&mut hits, order, &found);
        }
    }
    hits.sort_by_key(|(order, _)| *order);
    let target = ReportTarget { chip: target.chip.to_string(), os: target.os.to_string() };
    let mut report = ResidencyReport::count(subject.name, Source::Predicted, target, placements);
    report.conflicts = conflicts(rules, hits.iter().map(|(_, hit)| hit.rule.as_str()));
    let (hard, warnings) = hits.into_iter().map(|(_, hit)| hit).partition(|hit| hit.kind == Kind::Hard);
    (report.violations, report.warnings) = (hard, warnings);
    report.reason = reason(&report);
    report
}

/// Bytes of everything the program refers to in weight files.
fn weight_bytes(program: &Program) -> u64 {
    program.summary().weights.values().fold(0, |sum, weights| sum.saturating_add(weights.bytes))
}

fn ask<'a>(rule: &'a Rule, view: &View<'_>) -> Option<Found<'a>> {
    let all = || (0..view.ops.len()).collect();
    if rule.condition.is_whole() {
        return Some(Found { rule, what: rule.condition.of_function(view)?, ops: all() });
    }
    let mut what = None;
    let mut ops = Vec::new();
    for (index, op) in view.ops.iter().enumerate() {
        if let Some(found) = rule.condition.of_op(view, op) {
            what.get_or_insert(found);
            ops.push(index);
        }
    }
    let whole = rule.scope == Scope::Program;
    what.map(|what| Found { rule, what, ops: if whole { all() } else { ops } })
}

/// Gives every operation to the first hard rule that speaks of it, or to the Neural Engine.
fn place(view: &View<'_>, found: &[(usize, Found<'_>)]) -> Vec<OpPlacement> {
    let mut deciding: Vec<Option<&Found<'_>>> = vec![None; view.ops.len()];
    for (_, found) in found.iter().filter(|(_, found)| found.rule.kind == Kind::Hard) {
        for &op in &found.ops {
            if let Some(slot) = deciding.get_mut(op) {
                slot.get_or_insert(found);
            }
        }
    }
    let placed = view.ops.iter().zip(deciding).map(|(op, found)| OpPlacement {
        function: view.name.to_owned(),
        name: op.name.clone(),
        kind: op.kind.to_owned(),
        device: if found.is_some() { Device::Cpu } else { Device::Ane },
        supported_devices: if found.is_some() { vec![Device::Cpu] } else { vec![Device::Cpu, Device::Ane] },
        rule: found.map(|found| found.rule.id.clone()),
        reason: found.map(|found| format!("predicted: {}", found.rule.reason)),
        source: found.map(|found| found.rule.source.clone()),
    });
    placed.collect()
}

/// Adds what a rule found in one function to what it found in the others.
fn merge(hits: &mut Vec<(usize, RuleHit)>, order: usize, found: &Found<'_>) {
    if let Some((_, hit)) = hits.iter_mut().find(|(known, _)| *known == order) {
        hit.ops += found.ops.len();
        return;
    }
    let Found { rule, what, ops } = found;
    let hit = RuleHit {
        rule: rule.id.clone(),
        kind: rule.kind,
        ops: ops.len(),
        found: what.clone(),
        reason: format!("predicted: {}", rule.reason),
        source: rule.source.clone(),
        confidence: rule.confidence,
    };
    hits.push((order, hit));
}

/// The contradictions that the rules which apply are part of.
fn conflicts<'a>(rules: &Rules, applied: impl Iterator<Item = &'a str>) -> Vec<Conflict> {
    let applied: Vec<&str> = applied.collect();
    let known = rules.conflicts.iter().filter_map(|conflict| {
        let rule = conflict.rules.iter().find(|rule| applied.contains(&rule.as_str()))?;
        Some(Conflict {
            id: conflict.id.clone(),
            rule: rule.clone(),
            sides: conflict.sides.clone(),
            decides: conflict.decides,
            why: conflict.why.clone(),
        })
    });
    known.collect()
}

/// Why the verdict is not a pass: every hard rule, in one sentence.
fn reason(report: &ResidencyReport) -> Option<String> {
    if report.pass {
        return None;
    }
    if report.compute_total == 0 {
        return Some("predicted: the program has no operations that compute".to_owned());
    }
    let rules: Vec<String> =
        report.violations.iter().map(|hit| format!("{} ({})", hit.rule, hit.found)).collect();
    Some(format!(
        "predicted: {} of {} operations of {} off the Neural Engine, by {}",
        report.compute_non_ane,
        report.compute_total,
        report.shard,
        rules.join(", ")
    ))
}
