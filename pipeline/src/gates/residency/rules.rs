//! The rules: data, read from `rules.toml`, which is part of the program.
//!
//! Apple publishes no rule book for Core ML on the Neural Engine. Every rule is something that somebody measured or wrote, and
//! says who. Order matters: among the hard rules that one operation breaks, the first decides.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::report::Side;
use super::target::{Chip, Os, Target};

/// The text of the rules.
const TEXT: &str = include_str!("rules.toml");

/// Every rule and every known contradiction among their sources.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// In the order in which they decide.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// Contradictions.
    #[serde(rename = "conflict")]
    pub conflicts: Vec<KnownConflict>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name in reports.
    pub id: String,
    /// Whether it decides.
    pub kind: Kind,
    /// What it takes off the Neural Engine.
    pub scope: Scope,
    /// What it looks for.
    pub condition: Condition,
    /// Chips it holds for; absent for all.
    #[serde(default)]
    pub chips: Option<Vec<Chip>>,
    /// Systems it holds for; absent for all.
    #[serde(default)]
    pub os: OsRange,
    /// Who says so.
    pub source: String,
    /// How sure that is.
    pub confidence: Confidence,
    /// Why it matters, in plain words.
    pub reason: String,
}

/// Whether a rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What breaks it is expected off the Neural Engine.
    Hard,
    /// It is reported, and decides nothing.
    Warning,
}

/// What a hard rule takes off the Neural Engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Every operation of the function.
    Program,
    /// The operation that breaks it.
    Op,
}

/// How sure a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Read from compute plans or load errors, more than once.
    High,
    /// Measured once, or stated by those who measure.
    Medium,
    /// Stated without a measurement that can be looked up, or contradicted.
    Low,
}

/// Systems from one to another, both included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OsRange {
    /// The first; absent for any.
    pub from: Option<Os>,
    /// The last; absent for any.
    pub to: Option<Os>,
}

/// A contradiction among sources.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownConflict {
    /// Its name in reports.
    pub id: String,
    /// Rules that raise it when they apply.
    pub rules: Vec<String>,
    /// What each source says.
    pub sides: Vec<Side>,
    /// The index of the side that the verdict follows.
    pub decides: usize,
    /// Why that one.
    pub why: String,
}

impl Rule {
    /// Whether it holds for this machine.
    pub fn holds_for(&self, target: Target) -> bool {
        let chips = self.chips.as_ref().is_none_or(|chips| chips.contains(&target.chip));
        let from = self.os.from.is_none_or(|from| from <= target.os);
        chips && from && self.os.to.is_none_or(|to| target.os <= to)
    }
}

/// The rules of this program, or why its own file of rules cannot be read.
pub fn rules() -> Result<&'static Rules, &'static str> {
    static RULES: LazyLock<Result<Rules, String>> =
        LazyLock::new(|| toml::from_str(TEXT).map_err(|error| error.to_string()));
    RULES.as_ref().map_err(String::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_rule_has_a_name_of_its_own_a_source_and_a_reason() {
        let rules = rules().expect("rules");
        let mut ids = HashSet::new();
        for rule in &rules.rules {
            assert!(ids.insert(&rule.id), "{} is there twice", rule.id);
            assert!(rule.source.len() > 5 && rule.reason.len() > 20, "{} says too little", rule.id);
            assert!(rule.chips.as_ref().is_none_or(|chips| !chips.is_empty()), "{} holds nowhere", rule.id);
            assert!(!rule.condition.is_whole() || rule.scope == Scope::Program, "{}", rule.id);
            assert!(
                Chip::ALL
                    .iter()
                    .any(|&(chip, _)| { Os::ALL.iter().any(|&(os, _)| rule.holds_for(Target { chip, os })) })
            );
        }
    }

    #[test]
    fn every_conflict_names_rules_that_exist_two_sources_and_a_winner() {
        let rules = rules().expect("rules");
        let mut ids = HashSet::new();
        for conflict in &rules.conflicts {
            assert!(ids.insert(&conflict.id), "{} is there twice", conflict.id);
            assert!(conflict.sides.len() > 1 && conflict.decides < conflict.sides.len(), "{}", conflict.id);
            assert!(conflict.why.len() > 20 && !conflict.rules.is_empty(), "{}", conflict.id);
            for id in &conflict.rules {
                assert!(rules.rules.iter().any(|rule| rule.id == *id), "{}: no rule {id}", conflict.id);
            }
        }
    }

    #[test]
    fn a_rule_holds_for_its_chips_and_systems_only() {
        let rule = |text: &str| -> Rule {
            let rest = "id = 'x'\nkind = 'hard'\nscope = 'op'\ncondition = { is = 'rank-over', rank = 5 }\n\
                        source = 's'\nconfidence = 'low'\nreason = 'r'\n";
            toml::from_str(&format!("{rest}{text}")).expect("a rule")
        };
        let at = |chip, os| Target { chip, os };
        let old = rule("chips = ['m1', 'm2']\nos = { to = 26 }");
        assert!(old.holds_for(at(Chip::M1, Os::V26)) && old.holds_for(at(Chip::M2, Os::V15)));
        assert!(!old.holds_for(at(Chip::M1, Os::V27)) && !old.holds_for(at(Chip::M4, Os::V26)));
        let new = rule("os = { from = 27 }");
        assert!(new.holds_for(at(Chip::A18, Os::V27)) && !new.holds_for(at(Chip::A18, Os::V26)));
        assert!(rule("").holds_for(Target::default()));
    }

    /// The table of docs/residency.md.
    fn table(rules: &Rules) -> String {
        let mut table =
            "| rule | decides | holds for | why | source (confidence) |\n|---|---|---|---|---|\n".to_owned();
        for rule in &rules.rules {
            let chips = rule.chips.as_ref().map_or("all chips".to_owned(), |chips| {
                chips.iter().map(Chip::to_string).collect::<Vec<_>>().join(" ")
            });
            let os = match (rule.os.from, rule.os.to) {
                (Some(from), None) => format!(", macOS {from} and later"),
                (None, Some(to)) => format!(", macOS {to} and before"),
                _ => String::new(),
            };
            let decides = match (rule.kind, rule.scope) {
                (Kind::Warning, _) => "no",
                (Kind::Hard, Scope::Program) => "the program",
                (Kind::Hard, Scope::Op) => "the operation",
            };
            let Rule { id, reason, source, confidence, .. } = rule;
            let line = format!("| `{id}` | {decides} | {chips}{os} | {reason} | {source} ({confidence}) |\n");
            table.push_str(&line);
        }
        table
    }

    #[test]
    fn the_book_has_every_rule_and_every_contradiction() {
        let book = include_str!("../../../../docs/residency.md");
        let rules = rules().expect("rules");
        let table = table(rules);
        assert!(book.contains(&table), "docs/residency.md must have this table:\n{table}");
        let mut conflicts =
            "| about | the verdict follows | against | because |\n|---|---|---|---|\n".to_owned();
        for KnownConflict { id, sides, decides, why, .. } in &rules.conflicts {
            let side = |side: &Side| format!("{} ({})", side.says, side.source);
            let others: Vec<String> = sides
                .iter()
                .enumerate()
                .filter(|(index, _)| index != decides)
                .map(|(_, s)| side(s))
                .collect();
            let line = format!("| `{id}` | {} | {} | {why} |\n", side(&sides[*decides]), others.join("; "));
            conflicts.push_str(&line);
        }
        assert!(book.contains(&conflicts), "docs/residency.md must have this table:\n{conflicts}");
    }

    #[test]
    fn a_misspelt_rule_is_refused() {
        for text in ["is = 'bytes-over', byte = 1", "is = 'bytes-above', bytes = 1", "is = 'rank-over'"] {
            assert!(toml::from_str::<Condition>(&text.replace(", ", "\n")).is_err(), "{text}");
        }
    }
}
