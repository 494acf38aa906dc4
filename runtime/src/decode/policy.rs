//! Whether drafts are verified.

use std::time::Duration;

use crate::draft::{Decision, DraftGate, Match};

/// When a draft is verified. Changes speed only.
#[derive(Debug, Clone)]
pub enum Drafting {
    /// Whenever there is one.
    Always,
    /// Never: the drafter is not even asked.
    Never,
    /// When it is expected to pay, by what passes cost and brought so far. The gate can be kept for the next generation.
    Adaptive(Box<DraftGate>),
}

impl Drafting {
    pub(super) fn decide(&mut self, rests_on: Match) -> Decision {
        match self {
            Self::Always => Decision::Draft,
            Self::Never => Decision::Plain,
            Self::Adaptive(gate) => gate.decide(rests_on),
        }
    }

    pub(super) fn plain(&mut self, took: Duration) {
        if let Self::Adaptive(gate) = self {
            gate.plain(took);
        }
    }

    pub(super) fn drafted(&mut self, rests_on: Match, tokens: usize, took: Duration) {
        if let Self::Adaptive(gate) = self {
            gate.drafted(rests_on, tokens, took);
        }
    }
}
