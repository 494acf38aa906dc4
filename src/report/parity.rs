//! Whether each token is computed alike whatever else is in the pass, in the cache and in the program.

use std::collections::BTreeSet;

use anepipe_pipeline::gates::parity::{Invariance, Limits, ParityCheck, ParityReport};
use maud::{Markup, html};

use super::Evidence;
use super::figure::{self, cosine, of, short, worst_cosine};
use super::mark::{self, Source};
use super::section::{details, table};

const INVARIANCES: [(Invariance, &str); 3] = [
    (Invariance::Slot, "which slot a token sits in, and what the others hold"),
    (Invariance::Stale, "what lies in the KV cache behind the mask"),
    (Invariance::Width, "how many slots the program has"),
];

pub(super) fn section(evidence: &Evidence) -> Markup {
    let reports: Vec<(&str, &ParityReport)> = evidence
        .shards
        .iter()
        .filter_map(|shard| Some((shard.name.as_str(), &shard.parity.as_ref()?.report)))
        .collect();
    let demands: BTreeSet<String> = reports
        .iter()
        .flat_map(|(_, report)| &report.checks)
        .map(|check| demand(&check.thresholds))
        .collect();
    html! {
        p { "Does a pass of several tokens compute what each token alone would? Three things must not matter:" }
        dl {
            @for (invariance, words) in INVARIANCES {
                div { dt { (invariance) } dd { (words) } }
            }
        }
        @for demand in demands { p { "Demanded of every token: " (demand) "." } }
        @if reports.is_empty() { p { (mark::not_run()) ": the bundle has no parity report." } } @else { (summary(&reports)) }
        @for (name, report) in reports {
            (details(&format!("Every comparison of {name}"), &comparisons(report)))
        }
    }
}

fn demand(limits: &Limits) -> String {
    let bits = if limits.bit_exact { ", and every bit equal" } else { "" };
    let Limits { per_token_cos, update_per_token_cos, .. } = limits;
    format!(
        "cosine of its output ≥ {per_token_cos}, cosine of its update, which is what the shard added to it, ≥ {update_per_token_cos}{bits}"
    )
}

/// A row for each shard and invariance.
fn summary(reports: &[(&str, &ParityReport)]) -> Markup {
    table(&html! {
        thead {
            tr {
                th { "Shard" } th { "Must not matter" } th.figure { "Within limits" } th.figure { "Bits equal" }
                th.figure { "Worst cosine" } th.figure { "Worst update" } th.figure { "Largest difference" }
            }
        }
        @for (name, report) in reports {
            tbody {
                @for (index, (invariance, _)) in INVARIANCES.into_iter().enumerate() {
                    tr {
                        @if index == 0 {
                            @let source = Source::measured(report.device.as_str());
                            th scope="rowgroup" rowspan=(INVARIANCES.len()) {
                                (name) p.note { (source.verdict(report.pass)) ", " (source.label()) }
                            }
                        }
                        td { (invariance) }
                        (figures(report, invariance))
                    }
                }
            }
        }
    })
}

fn figures(report: &ParityReport, invariance: Invariance) -> Markup {
    let checks: Vec<&ParityCheck> =
        report.checks.iter().filter(|check| check.invariance == invariance).collect();
    if checks.is_empty() {
        let not_run = report.not_run.iter().find(|not_run| not_run.invariance == invariance);
        let why = not_run.map_or("the report does not speak of it", |not_run| not_run.reason.as_str());
        return html! { td.words colspan="5" { (mark::not_run()) ": " (why) } };
    }
    let met = checks.iter().filter(|check| check.pass).count();
    let exact = checks.iter().filter(|check| check.bit_exact).count();
    html! {
        td.figure { (of(met, checks.len())) }
        td.figure { (of(exact, checks.len())) }
        td.figure { (worst_cosine(checks.iter().flat_map(|check| &check.per_token_cos))) }
        td.figure { (worst_cosine(checks.iter().flat_map(|check| &check.update_per_token_cos))) }
        td.figure { (short(figure::largest(checks.iter().map(|check| check.max_abs)))) }
    }
}

fn comparisons(report: &ParityReport) -> Markup {
    table(&html! {
        thead {
            tr {
                th { "Must not matter" } th { "Case" } th { "Input" } th.figure { "All tokens" } th.figure { "Worst cosine" }
                th.figure { "Worst update" } th.figure { "RMSE" } th.figure { "Largest difference" }
                th { "Bits" } th { "Verdict" }
            }
        }
        tbody {
            @for check in &report.checks {
                tr {
                    td { (check.invariance) }
                    td { (check.case) }
                    td { (check.input) }
                    td.figure { (cosine(check.seq_vs_block_cos)) }
                    td.figure { (worst_cosine(&check.per_token_cos)) }
                    td.figure { (worst_cosine(&check.update_per_token_cos)) }
                    td.figure { (short(check.rmse)) }
                    td.figure { (short(check.max_abs)) }
                    td { @if check.bit_exact { "equal" } @else { "differ" } }
                    td {
                        (mark::met(check.pass))
                        @if !check.failing_tokens.is_empty() { " (tokens " (figure::list(&check.failing_tokens)) ")" }
                    }
                }
            }
        }
    })
}
