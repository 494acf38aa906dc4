//! What the gate found, as data.

use std::collections::BTreeMap;

use anepipe_runtime::decode::Generated;
use anepipe_runtime::token::TokenId;
use serde::{Deserialize, Serialize};

use super::Tokens;

/// Version of the report's shape.
pub const SCHEMA: u32 = 1;

/// How the speculative side drafts and chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// From the text so far.
    Ngram,
    /// Always wrong.
    Wrong,
    /// Plain decoding's own tokens, every third one spoiled.
    Foretold,
    /// From the text so far, and tokens drawn by chance.
    Sampled,
}

/// A bundle's exactness report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExactReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The device that ran it.
    pub device: String,
    /// How many prompts were decoded.
    pub prompts: usize,
    /// Tokens generated behind each prompt, at most.
    pub max_new: usize,
    /// Prompts whose tokens were equal in every case.
    pub equal: usize,
    /// The first token that differs; `null` when none does.
    pub first_divergence: Option<Divergence>,
    /// Tokens a pass brought in the case `ngram`; `null` where no pass was needed.
    pub tokens_per_pass: Option<f64>,
    /// Every case by itself.
    pub cases: Vec<CaseFigures>,
    /// The case `ngram` by the prompts' class.
    pub classes: Vec<ClassFigures>,
    /// Whether all tokens were equal.
    pub pass: bool,
    /// Why not, in one sentence; `null` when it passed.
    pub reason: Option<String>,
}

/// Where two token sequences part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The prompt.
    pub prompt: String,
    /// The speculative side.
    pub case: Case,
    /// Number of the generated token, from 0.
    pub token: usize,
    /// What plain decoding gave; `null` where it had ended.
    pub plain: Option<TokenId>,
    /// What speculative decoding gave; `null` where it had ended.
    pub speculative: Option<TokenId>,
}

/// One case over all prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseFigures {
    /// Which.
    pub case: Case,
    /// Prompts whose tokens were equal.
    pub equal: usize,
    /// Tokens generated.
    pub tokens: usize,
    /// Passes behind the prompt.
    pub passes: usize,
    /// Draft tokens verified.
    pub proposed: usize,
    /// Draft tokens accepted.
    pub accepted: usize,
    /// Tokens a pass brought.
    pub tokens_per_pass: Option<f64>,
}

/// One class of prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// Its name in the prompt file.
    pub class: String,
    /// Prompts of the class.
    pub prompts: usize,
    /// Tokens a pass brought.
    pub tokens_per_pass: Option<f64>,
}

/// Counts that become a report.
#[derive(Debug, Default)]
pub(super) struct Tally {
    max_new: usize,
    prompts: Vec<(String, bool)>,
    first_divergence: Option<Divergence>,
    cases: BTreeMap<Case, Counts>,
    classes: BTreeMap<String, Counts>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    runs: usize,
    equal: usize,
    tokens: usize,
    passes: usize,
    proposed: usize,
    accepted: usize,
}

impl Counts {
    fn add(&mut self, found: &Generated, equal: bool) {
        self.runs += 1;
        self.equal += usize::from(equal);
        self.tokens += found.tokens.len();
        self.passes += found.statistics.passes;
        self.proposed += found.statistics.proposed;
        self.accepted += found.statistics.accepted;
    }

    fn tokens_per_pass(self) -> Option<f64> {
        (self.passes > 0).then(|| 1.0 + self.accepted as f64 / self.passes as f64)
    }
}

impl Tally {
    pub(super) fn new(max_new: usize) -> Self {
        Self { max_new, ..Self::default() }
    }

    pub(super) fn add(&mut self, prompt: &Tokens, case: Case, expected: &Generated, found: &Generated) {
        let differing = difference(&expected.tokens, &found.tokens);
        let equal = differing.is_none() && expected.end == found.end;
        if !equal && self.first_divergence.is_none() {
            // Equal tokens that ended for different reasons part behind the last one.
            let token = differing.unwrap_or(found.tokens.len());
            self.first_divergence = Some(Divergence {
                prompt: prompt.id.clone(),
                case,
                token,
                plain: expected.tokens.get(token).copied(),
                speculative: found.tokens.get(token).copied(),
            });
        }
        match self.prompts.last_mut() {
            Some((id, all)) if *id == prompt.id => *all &= equal,
            _ => self.prompts.push((prompt.id.clone(), equal)),
        }
        self.cases.entry(case).or_default().add(found, equal);
        if case == Case::Ngram {
            self.classes.entry(prompt.class.clone()).or_default().add(found, equal);
        }
    }

    pub(super) fn report(self, device: &str) -> ExactReport {
        let figures = |(&case, counts): (&Case, &Counts)| CaseFigures {
            case,
            equal: counts.equal,
            tokens: counts.tokens,
            passes: counts.passes,
            proposed: counts.proposed,
            accepted: counts.accepted,
            tokens_per_pass: counts.tokens_per_pass(),
        };
        let class = |(class, counts): (String, Counts)| ClassFigures {
            class,
            prompts: counts.runs,
            tokens_per_pass: counts.tokens_per_pass(),
        };
        let equal = self.prompts.iter().filter(|(_, equal)| *equal).count();
        ExactReport {
            schema: SCHEMA,
            device: device.to_owned(),
            prompts: self.prompts.len(),
            max_new: self.max_new,
            equal,
            tokens_per_pass: self.cases.get(&Case::Ngram).and_then(|counts| counts.tokens_per_pass()),
            cases: self.cases.iter().map(figures).collect(),
            classes: self.classes.into_iter().map(class).collect(),
            pass: equal == self.prompts.len(),
            reason: self.first_divergence.as_ref().map(|at| at.sentence(equal, self.prompts.len())),
            first_divergence: self.first_divergence,
        }
    }
}

/// The first index at which two sequences differ.
fn difference(a: &[TokenId], b: &[TokenId]) -> Option<usize> {
    (0..a.len().max(b.len())).find(|&index| a.get(index) != b.get(index))
}
