//! Whether drafts change a token, and how many tokens they bring.

use anepipe_pipeline::gates::exact::{Case, ExactReport};
use maud::{Markup, html};

use super::Evidence;
use super::figure::{self, count, counted, of, ratio};
use super::mark::{self, Source};
use super::overview::why_not_run;
use super::section::table;

pub(super) fn section(evidence: &Evidence) -> Markup {
    html! {
        p { "Does speculative decoding give the tokens of plain decoding, every one of them?" }
        @match &evidence.exact {
            None => { p { (mark::not_run()) ": " (why_not_run(evidence)) "." } }
            Some(report) => { (figures(report)) }
        }
    }
}

fn figures(report: &ExactReport) -> Markup {
    let source = Source::measured(report.device.as_str());
    html! {
        p {
            (source.verdict(report.pass)) ", " (source.label()) ": " (of(report.equal, report.prompts))
            " prompts equal in every case, up to " (counted(report.max_new, "token")) " behind each."
        }
        @if let Some(reason) = &report.reason { p.failed { (reason) } }
        (cases(report))
        @if !report.classes.is_empty() {
            h3 { "By class of prompt" }
            p.note { "Case ngram." }
            (classes(report))
        }
    }
}

fn cases(report: &ExactReport) -> Markup {
    table(&html! {
        thead {
            tr {
                th { "Case" } th { "Drafts" } th.figure { "Prompts equal" } th.figure { "Tokens" } th.figure { "Passes" }
                th.figure { "Proposed" } th.figure { "Accepted" } th.figure { "Share" } th.figure { "Tokens a pass" }
            }
        }
        tbody {
            @for case in &report.cases {
                tr {
                    th scope="row" { (case.case) }
                    td.words { (drafts(case.case)) }
                    td.figure { (of(case.equal, report.prompts)) }
                    td.figure { (count(case.tokens as u64)) }
                    td.figure { (count(case.passes as u64)) }
                    td.figure { (count(case.proposed as u64)) }
                    td.figure { (count(case.accepted as u64)) }
                    td.figure { (figure::part(case.accepted, case.proposed)) }
                    td.figure { (ratio(case.tokens_per_pass)) }
                }
            }
        }
    })
}

fn drafts(case: Case) -> &'static str {
    match case {
        Case::Ngram => "from the text so far",
        Case::Wrong => "every one wrong",
        Case::Foretold => "plain decoding’s own tokens, every third one spoiled",
        Case::Sampled => "from the text so far; tokens are drawn",
    }
}

fn classes(report: &ExactReport) -> Markup {
    table(&html! {
        thead { tr { th { "Class" } th.figure { "Prompts" } th.figure { "Tokens a pass" } } }
        tbody {
            @for class in &report.classes {
                tr {
                    th scope="row" { (class.class) }
                    td.figure { (count(class.prompts as u64)) }
                    td.figure { (ratio(class.tokens_per_pass)) }
                }
            }
        }
    })
}
