//! Where the shards run, or are expected to run.

use std::collections::BTreeMap;

use anepipe_pipeline::gates::residency::{Device, OpPlacement, ResidencyReport, Source as ResidencySource};
use maud::{Markup, html};

use super::Evidence;
use super::figure::{counted, list, of};
use super::mark;
use super::overview::source_of;
use super::rules;
use super::section::table;

/// A shard's name and its report.
pub(super) type Named<'a> = (&'a str, &'a ResidencyReport);

pub(super) fn section(evidence: &Evidence) -> Markup {
    let reports: Vec<Named<'_>> = evidence
        .shards
        .iter()
        .filter_map(|shard| Some((shard.name.as_str(), shard.residency.as_ref()?)))
        .collect();
    let predicted = reports.iter().any(|(_, report)| source_of(report).is_prediction());
    html! {
        p { "Does every operation run on the Neural Engine? What runs elsewhere is as right, and several times slower." }
        @if predicted {
            p.caution {
                strong { "Predicted, not measured." }
                " Rules made of what others have published say where operations are expected to run; no device was asked. \
                 Only a compute plan of the device is a measurement."
            }
        }
        @if reports.is_empty() { p { (mark::not_run()) ": the bundle has no residency report." } } @else { (totals(&reports)) }
        (elsewhere(&reports))
        (rules::section(&reports))
    }
}

fn totals(reports: &[Named<'_>]) -> Markup {
    let predictions = reports.iter().filter(|(_, report)| source_of(report).is_prediction()).count();
    let heading = match predictions {
        0 => "Measured on the Neural Engine",
        all if all == reports.len() => "Predicted on the Neural Engine",
        _ => "On the Neural Engine",
    };
    table(&html! {
        thead {
            tr { th rowspan="2" { "Shard" } th.figure colspan="2" { (heading) } }
            tr { th.figure { "Convolutions" } th.figure { "Operations" } }
        }
        tbody {
            @for (name, report) in reports {
                @let source = source_of(report);
                tr {
                    th scope="row" {
                        (name) p.note { (source.verdict(report.pass)) ", " (source.label()) }
                    }
                    td.figure { (of(report.conv_ane, report.conv_total)) }
                    td.figure { (of(report.compute_ane, report.compute_total)) }
                }
            }
        }
    })
}

/// What a device runs elsewhere, by the reason it gives.
fn elsewhere(reports: &[Named<'_>]) -> Markup {
    let mut groups: BTreeMap<&str, Vec<(&str, Vec<&OpPlacement>)>> = BTreeMap::new();
    for (name, report) in reports.iter().filter(|(_, report)| report.source == ResidencySource::Measured) {
        for op in report.ops.iter().filter(|op| op.device != Device::Ane) {
            let shards = groups.entry(op.reason.as_deref().unwrap_or("no reason is given")).or_default();
            match shards.last_mut() {
                Some((last, ops)) if last == name => ops.push(op),
                _ => shards.push((name, vec![op])),
            }
        }
    }
    html! {
        @if !groups.is_empty() {
            h3 { "Measured off the Neural Engine" }
            dl.reasons {
                @for (reason, shards) in groups {
                    div {
                        dt { (reason) }
                        @for (name, ops) in shards {
                            dd.note { (name) ": " (counted(ops.len(), "operation")) ", " (kinds(ops.into_iter())) }
                        }
                    }
                }
            }
        }
    }
}

/// Kinds with how often they occur, the most frequent first.
pub(super) fn kinds<'a>(ops: impl Iterator<Item = &'a OpPlacement>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for op in ops {
        *counts.entry(&op.kind).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(kind, count)| (std::cmp::Reverse(count), kind));
    list(&counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>())
}
