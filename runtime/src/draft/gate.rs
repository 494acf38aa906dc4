//! When a draft pays: only if the tokens it is expected to bring outweigh what the wider pass costs.
//!
//! Let c be the cost of a pass over a block over that of a pass over one token, both measured while running, and m(L)
//! the running mean of tokens a drafted pass brought when the draft rested on a match of L tokens, in the same text or in
//! another's: the two have means of their own. A draft is worth its pass when m(L) > c; otherwise the plain pass is at least as
//! fast, and is what runs.
//!
//! Before the first draft c is not known, and a text may be over before the loss of one bad guess at it is made up for. So c is
//! taken to be [`UNKNOWN`] until then, less and less the longer the text grows: the first draft waits for a long match, or for a
//! text in which it hardly counts.
//!
//! Expectations can be wrong, so drafts run on credit, counted in plain passes. A drafted pass that brought t tokens adds
//! t − c to it, a plain pass adds [`EARNED`], and it never exceeds [`CREDIT`]. Without credit no draft runs. So whatever
//! the drafter, the text and c, a generation takes no longer than plain decoding by more than [`CREDIT`] + c passes and
//! [`EARNED`] of its passes; the tests say so by arithmetic over a grid of costs and acceptances.

use std::time::Duration;

use super::table::MAX_RUN;
use super::{Match, Source};

/// Tokens a T=4 pass brought by match length, where measured by replay over 360 greedy responses of a 7B model: 1 → 1.42,
/// 2 → 1.98, 3 → 2.27, 5 → 2.66, 9 and more → 3.47; between them, interpolated. The means start here.
const PRIOR: [f64; MAX_RUN + 1] = [1.0, 1.42, 1.98, 2.27, 2.47, 2.66, 2.86, 3.06, 3.27];

/// The same of matches in other texts, between what two small models' texts gave by replay: 1.24 and 1.41 for one token, 1.59 and
/// 2.21 for three, 1.81 and 2.60 for five, 2.97 and 2.95 for eight.
const PRIOR_ELSEWHERE: [f64; MAX_RUN + 1] = [1.0, 1.3, 1.6, 1.9, 2.1, 2.2, 2.4, 2.6, 2.95];

/// Passes that the prior counts for.
const PRIOR_WEIGHT: f64 = 8.0;

/// Weight of the newest pass in a running mean: about the last thirty passes decide.
const NEWEST: f64 = 1.0 / 32.0;

/// What c is taken for before it was measured: above what a match of three tokens brings, below what one of four does. By replay
/// of two small models' texts of 24, 64 and 128 tokens, no class of prompts is then slower by more than 2.1 % for any c up to 2.2
/// (7.4 % if the first draft is always run), and long texts keep all but 3 % of their speed.
const UNKNOWN: f64 = 2.4;

/// How much less after each plain pass: after 63 of them anything is tried.
const UNKNOWN_FALLS: f64 = 1.0 / 64.0;

/// Plain passes that drafts may lose before they have to wait: enough to learn c and a few means.
const CREDIT: f64 = 4.0;

/// Share of plain passes that may be spent on trying what did not pay before, so that a mean can recover.
const EARNED: f64 = 1.0 / 100.0;

/// A draft that is not expected to pay is tried after so many refusals of its match length, if there is credit.
const RETRY_AFTER: u32 = 64;

/// One pass in so many is plain at least, so that c follows a machine that gets warm or busy. The first few plain passes come
/// earlier, after 4, 16, 36 … drafted ones, since one measurement may be of anything.
const REMEASURE_AFTER: usize = 256;

/// Passes of a kind whose median is their cost.
const TIMED: usize = 9;

/// Whether to verify a draft in the next pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is expected to pay.
    Draft,
    /// One token at a time is expected to be faster.
    Plain,
}

/// Decides pass by pass whether a draft is worth verifying. Changes speed only.
#[derive(Debug, Clone)]
pub struct DraftGate {
    /// Drafts that rested on the text itself, and on others.
    own: Kind,
    other: Kind,
    block: Times,
    single: Times,
    credit: f64,
    /// Drafted passes since the latest plain one.
    unmeasured: usize,
}

impl DraftGate {
    /// A gate that has seen nothing: it runs a plain pass, then waits for a draft that is worth the risk, and learns from it.
    pub fn new() -> Self {
        Self {
            own: Kind::new(PRIOR),
            other: Kind::new(PRIOR_ELSEWHERE),
            block: Times::default(),
            single: Times::default(),
            credit: CREDIT,
            unmeasured: 0,
        }
    }

    /// Whether a draft that rests on such a match should be verified.
    pub fn decide(&mut self, rests_on: Match) -> Decision {
        // A text that always matches would otherwise never show what a plain pass costs.
        let due = (2 * self.single.count).saturating_pow(2).min(REMEASURE_AFTER);
        if self.unmeasured >= due {
            return Decision::Plain;
        }
        let unknown = || UNKNOWN - UNKNOWN_FALLS * self.single.count as f64;
        let cost = self.cost().unwrap_or_else(unknown);
        let affordable = self.credit > 0.0;
        let (tokens, refused) = self.of(rests_on);
        if affordable && (tokens.value > cost || *refused >= RETRY_AFTER) {
            *refused = 0;
            Decision::Draft
        } else {
            *refused = refused.saturating_add(1);
            Decision::Plain
        }
    }

    /// Learns from a pass over a draft that rested on such a match and brought `tokens` tokens.
    pub fn drafted(&mut self, rests_on: Match, tokens: usize, took: Duration) {
        self.of(rests_on).0.add(tokens as f64);
        self.block.add(took.as_secs_f64());
        self.unmeasured = self.unmeasured.saturating_add(1);
        let cost = self.cost().unwrap_or(1.0);
        self.credit = (self.credit + tokens as f64 - cost).min(CREDIT);
    }

    /// Learns from a pass over one token.
    pub fn plain(&mut self, took: Duration) {
        self.single.add(took.as_secs_f64());
        self.unmeasured = 0;
        self.credit = (self.credit + EARNED).min(CREDIT);
    }

    /// The measured cost c of a block in single passes, once both were seen.
    pub fn cost(&self) -> Option<f64> {
        let (block, single) = (self.block.median()?, self.single.median()?);
        (single > 0.0).then(|| block / single)
    }

    /// What drafts on such a match brought, and how often in a row they were refused.
    fn of(&mut self, rests_on: Match) -> (&mut Mean, &mut u32) {
        let length = rests_on.length.min(MAX_RUN);
        let kind = match rests_on.source {
            Source::Own => &mut self.own,
            Source::Other => &mut self.other,
        };
        (&mut kind.tokens[length], &mut kind.refused[length])
    }
}

impl Default for DraftGate {
    fn default() -> Self {
        Self::new()
    }
}

/// Drafts that rested on matches from one source, by the length of the match.
#[derive(Debug, Clone)]
struct Kind {
    tokens: [Mean; MAX_RUN + 1],
    /// Refusals in a row.
    refused: [u32; MAX_RUN + 1],
}

impl Kind {
    fn new(prior: [f64; MAX_RUN + 1]) -> Self {
        Self { tokens: prior.map(|value| Mean { value, weight: PRIOR_WEIGHT }), refused: [0; MAX_RUN + 1] }
    }
}

/// A running mean: plain at first, then exponential.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    value: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.weight = (self.weight + 1.0).min(1.0 / NEWEST);
        self.value += (value - self.value) / self.weight;
    }
}

/// The latest passes of a kind, in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    latest: [f64; TIMED],
    /// Passes seen.
    count: usize,
}

impl Times {
    fn add(&mut self, seconds: f64) {
        self.latest[self.count % TIMED] = seconds;
        self.count = self.count.saturating_add(1);
    }

    /// Of an even number the lower one, so that the second of two finds out a first one that was slow: whatever disturbs a
    /// measurement makes it longer.
    fn median(&self) -> Option<f64> {
        let mut latest = self.latest;
        let known = latest.get_mut(..self.count.min(TIMED))?;
        known.sort_unstable_by(f64::total_cmp);
        known.get(known.len().checked_sub(1)? / 2).copied()
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
