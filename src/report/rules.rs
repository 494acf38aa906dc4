//! The rules that predictions stand on, once each, with the shards they concern.

use anepipe_pipeline::gates::residency::{Confidence, Conflict, Kind, ResidencyReport, RuleHit, Side};
use maud::{Markup, html};

use super::figure::{counted, list};
use super::residency::{Named, kinds};
use super::section::table;

/// A rule and the shards it concerns.
struct Group<'a> {
    hit: &'a RuleHit,
    concerned: Vec<Concerned<'a>>,
}

/// Shards that a rule concerns in the same way.
struct Concerned<'a> {
    shards: Vec<&'a str>,
    hit: &'a RuleHit,
    /// What the rule decides, where that is not the whole shard.
    decides: Option<String>,
}

pub(super) fn section(reports: &[Named<'_>]) -> Markup {
    let broken = groups(reports, |report| &report.violations);
    let warnings = groups(reports, |report| &report.warnings);
    html! {
        @if !broken.is_empty() {
            h3 { "Rules broken" }
            p { "Each takes operations off the Neural Engine, by prediction." }
            (hits(&broken))
        }
        @if !warnings.is_empty() {
            h3 { "Warnings" }
            p { "They decide nothing." }
            (hits(&warnings))
        }
        (conflicts(reports))
    }
}

/// Rules in the order in which they first occur.
fn groups<'a>(reports: &[Named<'a>], hits: impl Fn(&'a ResidencyReport) -> &'a [RuleHit]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for &(shard, report) in reports {
        for hit in hits(report) {
            let decided = || report.ops.iter().filter(|op| op.rule.as_deref() == Some(&hit.rule));
            let number = decided().count();
            let decides = (number > 0 && number < report.ops.len()).then(|| kinds(decided()));
            let at = groups.iter().position(|group| rule(group.hit) == rule(hit)).unwrap_or_else(|| {
                groups.push(Group { hit, concerned: Vec::new() });
                groups.len() - 1
            });
            let same = |known: &&mut Concerned<'_>| {
                (known.hit.ops, &known.hit.found, &known.decides) == (hit.ops, &hit.found, &decides)
            };
            let concerned = &mut groups[at].concerned;
            match concerned.iter_mut().find(same) {
                Some(known) => known.shards.push(shard),
                None => concerned.push(Concerned { shards: vec![shard], hit, decides }),
            }
        }
    }
    groups
}

/// What is said of a rule apart from where it applies.
fn rule(hit: &RuleHit) -> (&str, Kind, &str, &str, Confidence) {
    (&hit.rule, hit.kind, &hit.reason, &hit.source, hit.confidence)
}

fn hits(groups: &[Group<'_>]) -> Markup {
    html! {
        ul.rules {
            @for Group { hit, concerned } in groups {
                li {
                    code { (hit.rule) }
                    div {
                        p { (hit.reason) "." }
                        p.note { "Source, of " (hit.confidence) " confidence: " (hit.source) "." }
                        @for Concerned { shards, hit, decides } in concerned {
                            p.note {
                                (list(shards)) ": " (counted(hit.ops, "operation")) @if shards.len() > 1 { " each" }
                                "; found " (hit.found)
                                @if let Some(decides) = decides { "; decides " (decides) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn conflicts(reports: &[Named<'_>]) -> Markup {
    let mut all: Vec<(&Conflict, Vec<&str>)> = Vec::new();
    for &(shard, report) in reports {
        for conflict in &report.conflicts {
            match all.iter_mut().find(|(known, _)| *known == conflict) {
                Some((_, shards)) => shards.push(shard),
                None => all.push((conflict, vec![shard])),
            }
        }
    }
    if all.is_empty() {
        return html! {};
    }
    let body = html! {
        thead { tr { th { "About" } th { "The verdict follows" } th { "Against" } th { "Because" } } }
        tbody {
            @for (conflict, shards) in all {
                tr {
                    th.words scope="row" { code { (conflict.id) } p.note { (list(&shards)) ", by " code { (conflict.rule) } } }
                    td.words { @if let Some(side) = conflict.sides.get(conflict.decides) { (said(side)) } }
                    td.words {
                        @for (index, side) in conflict.sides.iter().enumerate() {
                            @if index != conflict.decides { (said(side)) }
                        }
                    }
                    td.words { (conflict.why) }
                }
            }
        }
    };
    html! {
        h3 { "Where published sources contradict each other" }
        (table(&body))
    }
}

fn said(side: &Side) -> Markup {
    html! { (side.says) p.note { (side.source) } }
}
