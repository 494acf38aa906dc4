//! When a draft pays: only if the tokens it is expected to bring outweigh what the wider pass costs.
//!
//! Let c be the cost of a pass over a block over that of a pass over one token, both measured while running, and m(L)
//! the running mean of tokens a drafted pass brought when the draft rested on a match of L tokens. A draft is worth its
//! pass when m(L) > c; otherwise the plain pass is at least as fast, and is what runs.

use std::time::Duration;

use super::table::MAX_RUN;

/// Tokens a T=4 pass brought by match length, where measured by replay over 360 greedy responses of a 7B model: 1 → 1.42,
/// 2 → 1.98, 3 → 2.27, 5 → 2.66, 9 and more → 3.47; between them, interpolated. The means start here.
const PRIOR: [f64; MAX_RUN + 1] = [1.0, 1.42, 1.98, 2.27, 2.47, 2.66, 2.86, 3.06, 3.27];

/// Passes that the prior counts for.
const PRIOR_WEIGHT: f64 = 8.0;

/// Weight of the newest pass in a running mean: about the last thirty passes decide.
const NEWEST: f64 = 1.0 / 32.0;

/// After this many refusals in a row a draft is tried all the same, so that a mean can recover.
const RETRY_AFTER: u32 = 64;

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
    tokens: [Mean; MAX_RUN + 1],
    block: Mean,
    single: Mean,
    refused: u32,
}

impl DraftGate {
    /// A gate that has seen nothing: it drafts, and learns from it.
    pub fn new() -> Self {
        let tokens = PRIOR.map(|value| Mean { value, weight: PRIOR_WEIGHT });
        Self { tokens, block: Mean::default(), single: Mean::default(), refused: 0 }
    }

    /// Whether a draft that rests on `match_length` tokens should be verified.
    pub fn decide(&mut self, match_length: usize) -> Decision {
        // Until both kinds of pass were timed, their costs are taken to be equal.
        let worth = self.cost().is_none_or(|cost| self.tokens[match_length.min(MAX_RUN)].value > cost);
        if worth || self.refused >= RETRY_AFTER {
            self.refused = 0;
            Decision::Draft
        } else {
            self.refused += 1;
            Decision::Plain
        }
    }

    /// Learns from a pass over a draft that rested on `match_length` tokens and brought `tokens` tokens.
    pub fn drafted(&mut self, match_length: usize, tokens: usize, took: Duration) {
        self.tokens[match_length.min(MAX_RUN)].add(tokens as f64);
        self.block.add(took.as_secs_f64());
    }

    /// Learns from a pass over one token.
    pub fn plain(&mut self, took: Duration) {
        self.single.add(took.as_secs_f64());
    }

    /// The measured cost c of a block in single passes, once both were seen.
    pub fn cost(&self) -> Option<f64> {
        let known = self.block.weight > 0.0 && self.single.weight > 0.0 && self.single.value > 0.0;
        known.then(|| self.block.value / self.single.value)
    }
}

impl Default for DraftGate {
    fn default() -> Self {
        Self::new()
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Runs the gate where a block costs `cost` and every draft brings `tokens`; gives the share of drafts verified.
    fn share(cost: f64, tokens: usize, match_length: usize) -> f64 {
        let mut gate = DraftGate::new();
        gate.plain(MS * 10);
        let drafted = (0..1000).filter(|_| match gate.decide(match_length) {
            Decision::Draft => {
                gate.drafted(match_length, tokens, (MS * 10).mul_f64(cost));
                true
            }
            Decision::Plain => {
                gate.plain(MS * 10);
                false
            }
        });
        drafted.count() as f64 / 1000.0
    }

    #[test]
    fn a_draft_is_verified_when_it_pays() {
        assert!(share(1.02, 2, 1) > 0.99);
        assert!(share(2.0, 4, 8) > 0.99);
        assert!(share(1.6, 1, 1) < 0.05, "it never pays");
        assert!(share(4.43, 3, 8) < 0.05, "it costs more than it brings");
    }

    #[test]
    fn costs_are_taken_to_be_equal_until_both_are_measured() {
        let mut gate = DraftGate::new();
        assert_eq!((gate.cost(), gate.decide(1)), (None, Decision::Draft));
        gate.drafted(1, 1, MS * 50);
        assert_eq!((gate.cost(), gate.decide(1)), (None, Decision::Draft));
        gate.plain(MS * 10);
        assert_eq!((gate.cost(), gate.decide(1)), (Some(5.0), Decision::Plain));
    }

    #[test]
    fn what_stopped_paying_is_tried_again_from_time_to_time() {
        let mut gate = DraftGate::new();
        gate.plain(MS);
        gate.drafted(1, 1, MS * 10);
        let tried = (0..RETRY_AFTER * 3).filter(|_| gate.decide(1) == Decision::Draft).count();
        assert_eq!(tried, 2);
    }
}
