//! Whether the whole model says what an independent forward of its file says.

use anepipe_pipeline::gates::golden::{Bound, Comparison, GoldenCheck, GoldenReport, Measure, Weights};
use maud::{Markup, html};

use super::Evidence;
use super::figure::{self, cosine, counted, percent, short};
use super::mark::{self, Source};
use super::overview::why_not_run;
use super::section::table;

pub(super) fn section(evidence: &Evidence) -> Markup {
    html! {
        p { "Do the shards say what the model file says? An independent forward in fp32 reads the same text; logits are compared at every position." }
        @match &evidence.golden {
            None => { p { (mark::not_run()) ": " (why_not_run(evidence)) "." } }
            Some(report) => { (figures(report)) }
        }
    }
}

fn figures(report: &GoldenReport) -> Markup {
    let source = Source::measured(report.device.as_str());
    html! {
        p {
            (source.verdict(report.pass)) ", " (source.label()) ": " (counted(report.text.tokens, "token"))
            " of " (report.text.source) ", weights stored as " (report.quantization) "."
        }
        @if let Some(reason) = &report.reason { p.failed { (reason) } }
        @if report.comparisons.is_empty() { p { "The logits could not be compared at all." } } @else { (comparisons(report)) }
    }
}

fn comparisons(report: &GoldenReport) -> Markup {
    table(&html! {
        thead {
            tr {
                th { "The reference has" } th { "Figure" } th.figure { "Value" } th.figure { "Limit" } th.figure { "At token" } th { "Verdict" }
            }
        }
        @for comparison in &report.comparisons {
            @let others = others(comparison);
            tbody {
                @for (index, check) in comparison.checks.iter().enumerate() {
                    tr {
                        @if index == 0 {
                            th.words scope="rowgroup" rowspan=(comparison.checks.len() + others.len()) {
                                (comparison.weights) p.note { (meaning(comparison.weights)) }
                            }
                        }
                        (checked(check))
                    }
                }
                @for (index, (what, value, token)) in others.iter().enumerate() {
                    tr {
                        @if index == 0 && comparison.checks.is_empty() {
                            th.words scope="rowgroup" rowspan=(others.len()) { (comparison.weights) }
                        }
                        td { (what) }
                        td.figure { (value) }
                        td.figure { (figure::NONE) }
                        td.figure { (token.map(|token| token.to_string()).unwrap_or_default()) }
                        td.quiet { "decides nothing" }
                    }
                }
            }
        }
    })
}

fn meaning(weights: Weights) -> &'static str {
    match weights {
        Weights::Stored => "rounded as the shards store them: a difference is a mistake",
        Weights::File => "a difference is what the shards cost in all",
    }
}

fn checked(check: &GoldenCheck) -> Markup {
    let value = match check.measure {
        Measure::CosineMean | Measure::CosineWorst => cosine(check.value),
        Measure::KlMean | Measure::KlWorst => short(check.value),
        Measure::Top1Agreement => check.value.map_or("NaN".to_owned(), percent),
    };
    let limit = match check.measure {
        Measure::Top1Agreement => format!("{} %", check.limit * 100.0),
        _ => check.limit.to_string(),
    };
    let unit = match check.measure {
        Measure::KlMean | Measure::KlWorst => ", nats",
        _ => "",
    };
    let sign = match check.bound {
        Bound::AtLeast => "≥",
        Bound::AtMost => "≤",
    };
    html! {
        td { (check.measure) (unit) }
        td.figure { (value) }
        td.figure { (sign) " " (limit) }
        td.figure { (check.token.map(|token| token.to_string()).unwrap_or_default()) }
        td { (mark::met(check.pass)) }
    }
}

/// Figures without a limit, with the token they belong to.
fn others(comparison: &Comparison) -> Vec<(&'static str, String, Option<usize>)> {
    let figures = &comparison.figures;
    let perplexity =
        |value: Option<f64>| value.map_or(figure::NONE.to_owned(), |value| format!("{value:.3}"));
    vec![
        (
            "largest difference of logits",
            short(figures.max_abs.map(|worst| worst.value)),
            figures.max_abs.map(|worst| worst.token),
        ),
        ("perplexity to the reference", perplexity(figures.perplexity_reference), None),
        ("perplexity to the shards", perplexity(figures.perplexity_shards), None),
    ]
}
