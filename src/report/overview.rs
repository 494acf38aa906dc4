//! The head of the page: what the bundle is, and what every gate says of it in a line.

use anepipe_pipeline::gates::golden::{Comparison, GoldenReport};
use anepipe_pipeline::gates::residency::{ResidencyReport, Source as ResidencySource};
use anepipe_runtime::bundle::manifest::Role;
use maud::{Markup, html};

use super::Evidence;
use super::evidence::Shard;
use super::figure::{self, count, counted, list, of};
use super::mark::{self, Source};
use super::section::table;

/// A gate and what it looked at.
struct Row {
    gate: &'static str,
    about: String,
    outcome: Outcome,
}

enum Outcome {
    Ran { pass: bool, source: Source, says: String },
    NotRun { why: String },
}

/// What the bundle is called.
pub(super) fn title(evidence: &Evidence) -> String {
    let contract = &evidence.contract;
    let layers = counted(contract.layers.value as usize, "layer");
    let (name, quantization) = (contract.architecture.value.name(), &evidence.manifest.quantization);
    format!("{name}, {layers}, {quantization}")
}

/// What it is, and how it stands, in sentences.
pub(super) fn lead(evidence: &Evidence) -> Markup {
    let rows = rows(evidence);
    let manifest = &evidence.manifest;
    html! {
        p.sub {
            @if evidence.whole { "A whole model" } @else { "A part of a model: " (held(evidence)) }
            ", in " (counted(evidence.shards.len(), "shard"))
            "; block " (count(manifest.block)) ", context " (count(manifest.context)) "."
        }
        p.lead { (measured(&rows)) }
        @if let Some(predicted) = predicted(&rows) { p.lead { (predicted) } }
    }
}

/// A line for each gate.
pub(super) fn section(evidence: &Evidence) -> Markup {
    let rows = rows(evidence);
    let portable = rows.iter().any(|row| {
        matches!(&row.outcome, Outcome::Ran { source: Source::Measured { on }, .. } if on == "portable")
    });
    let body = html! {
        thead { tr { th { "Gate" } th { "Looked at" } th { "Verdict" } th { "How it is known" } th { "Figures" } } }
        tbody {
            @for Row { gate, about, outcome } in &rows {
                tr {
                    th scope="row" { (gate) }
                    td { (about) }
                    @match outcome {
                        Outcome::Ran { pass, source, says } => {
                            td { (source.verdict(*pass)) }
                            td { (source.label()) }
                            td.words { (says) }
                        }
                        Outcome::NotRun { why } => {
                            td { (mark::not_run()) }
                            td { (figure::NONE) }
                            td.words { (why) }
                        }
                    }
                }
            }
        }
    };
    html! {
        section #gates {
            h2 { "Gates" }
            (table(&body))
            @if portable {
                p.note {
                    "The device " code { "portable" } " is anepipe’s own: it computes what a shard’s program says on a CPU, \
                     with the same bits on every machine. What was measured on it was not measured on a Neural Engine."
                }
            }
        }
    }
}

/// By what the bundle can be told from others.
pub(super) fn origin(evidence: &Evidence) -> Markup {
    html! {
        p {
            "Made by anepipe " (env!("CARGO_PKG_VERSION")) " from the bundle whose " code { "manifest.json" } " has the blake3 "
            code.digest { (evidence.digest) } ". Every file of it was as that manifest says."
        }
    }
}

/// How a residency report knows.
pub(super) fn source_of(report: &ResidencyReport) -> Source {
    let machine = format!("{}, macOS {}", report.target.chip, report.target.os);
    match report.source {
        ResidencySource::Predicted => Source::Predicted { of: machine },
        ResidencySource::Measured => Source::measured(machine),
    }
}

/// What was run, in a sentence.
fn measured(rows: &[Row]) -> String {
    let ran: Vec<(&Row, bool)> = rows.iter().filter_map(|row| ran(row, false)).collect();
    let failed: Vec<String> = ran
        .iter()
        .filter(|(_, pass)| !pass)
        .map(|(row, _)| format!("{} of {}", row.gate, row.about))
        .collect();
    match (ran.len(), failed.as_slice()) {
        (0, _) => "No gate was run on a device.".to_owned(),
        (1, []) => "The one gate that was run passed.".to_owned(),
        (2, []) => "Both gates that were run passed.".to_owned(),
        (all, []) => format!("All {} gates that were run passed.", count(all as u64)),
        (all, failed) => {
            format!(
                "{} of {} that were run failed: {}.",
                count(failed.len() as u64),
                counted(all, "gate"),
                list(failed)
            )
        }
    }
}

/// What is predicted, in a sentence; none where nothing is.
fn predicted(rows: &[Row]) -> Option<String> {
    let all: Vec<(&Row, bool)> = rows.iter().filter_map(|row| ran(row, true)).collect();
    let doubted: Vec<&str> =
        all.iter().filter(|(_, pass)| !pass).map(|(row, _)| row.about.as_str()).collect();
    let expectation = match (all.len(), doubted.as_slice()) {
        (0, _) => return None,
        (_, []) => "every shard is expected to run wholly on the Neural Engine".to_owned(),
        (all, doubted) if doubted.len() == all => {
            "no shard is expected to run wholly on the Neural Engine".to_owned()
        }
        (all, doubted) => {
            let verb = if doubted.len() == 1 { "is" } else { "are" };
            let (number, shards) = (of(doubted.len(), all), list(doubted));
            format!("{number} shards {verb} not expected to run wholly on the Neural Engine: {shards}")
        }
    };
    Some(format!("Residency is predicted, not measured: {expectation}."))
}

/// The row and its verdict, if it is a prediction or is none, as asked.
fn ran(row: &Row, prediction: bool) -> Option<(&Row, bool)> {
    match &row.outcome {
        Outcome::Ran { pass, source, .. } if source.is_prediction() == prediction => Some((row, *pass)),
        _ => None,
    }
}

fn rows(evidence: &Evidence) -> Vec<Row> {
    let mut rows: Vec<Row> = evidence.shards.iter().map(parity).collect();
    rows.extend(evidence.shards.iter().map(residency));
    let model = |gate, ran: Option<(bool, &str, String)>| Row {
        gate,
        about: "the whole model".to_owned(),
        outcome: match ran {
            Some((pass, device, says)) => Outcome::Ran { pass, source: Source::measured(device), says },
            None => Outcome::NotRun { why: why_not_run(evidence) },
        },
    };
    let golden = evidence.golden.as_ref().map(|report| {
        let says = report.reason.clone().unwrap_or_else(|| agreement(report));
        (report.pass, report.device.as_str(), says)
    });
    rows.push(model("golden", golden));
    let exact = evidence.exact.as_ref().map(|report| {
        let equal = format!("{} prompts equal", of(report.equal, report.prompts));
        let says = match &report.reason {
            Some(reason) => reason.clone(),
            None => format!("{equal}, {} tokens a pass", figure::ratio(report.tokens_per_pass)),
        };
        (report.pass, report.device.as_str(), says)
    });
    rows.push(model("exactness", exact));
    rows
}

/// The chief figures of a golden report that passed.
fn agreement(report: &GoldenReport) -> String {
    let figures = report.comparisons.iter().map(|Comparison { weights, figures, .. }| {
        let (kl, top1) = (figure::short(figures.kl_mean), figure::percent(figures.top1_agreement));
        format!("mean KL {kl} nats and top-1 agreement {top1} with {weights}")
    });
    let figures: Vec<String> = figures.collect();
    format!("{} compared: {}", counted(report.text.tokens, "token"), figures.join("; "))
}

fn parity(shard: &Shard) -> Row {
    let outcome = match &shard.parity {
        None => no_report(),
        Some(judged) => {
            let report = &judged.report;
            let met = report.checks.iter().filter(|check| check.pass).count();
            let exact = report.checks.iter().filter(|check| check.bit_exact).count();
            let says = judged.reason.clone().unwrap_or_else(|| {
                let all = report.checks.len();
                format!(
                    "{} comparisons within their limits, {} equal in every bit",
                    of(met, all),
                    count(exact as u64)
                )
            });
            Outcome::Ran { pass: report.pass, source: Source::measured(report.device.as_str()), says }
        }
    };
    Row { gate: "parity", about: shard.name.clone(), outcome }
}

fn residency(shard: &Shard) -> Row {
    let outcome = match &shard.residency {
        None => no_report(),
        Some(report) => {
            let source = source_of(report);
            Outcome::Ran { pass: report.pass, source, says: report.summary() }
        }
    };
    Row { gate: "residency", about: shard.name.clone(), outcome }
}

fn no_report() -> Outcome {
    Outcome::NotRun { why: "the bundle has no report of it".to_owned() }
}

/// Why a gate on the whole model has no report.
pub(super) fn why_not_run(evidence: &Evidence) -> String {
    if evidence.whole {
        "the bundle has no report of it".to_owned()
    } else {
        format!("it looks at a whole model, and the bundle holds a part ({})", held(evidence))
    }
}

/// What a bundle of a part holds: ranges of neighbouring shards as one.
fn held(evidence: &Evidence) -> String {
    let mut runs: Vec<(Role, [u32; 2])> = Vec::new();
    for Shard { entry, .. } in &evidence.shards {
        match runs.last_mut() {
            Some((role, [_, end])) if *role == entry.role && *end == entry.range[0] => *end = entry.range[1],
            _ => runs.push((entry.role, entry.range)),
        }
    }
    let contract = &evidence.contract;
    let words: Vec<String> = runs
        .into_iter()
        .map(|(role, [start, end])| {
            let (what, all) = match role {
                Role::Layers => ("layers", contract.layers.value),
                Role::LmHead => ("rows of the head", contract.vocab.value),
            };
            format!("{what} {start}..{end} of {}", count(all))
        })
        .collect();
    list(&words)
}
