//! Drafters: guesses at the next tokens that cost next to nothing.
//!
//! A draft changes how many passes a text takes, never the text: the loop keeps only what the model itself would have
//! said. So a drafter may be as wrong as it likes, and nothing here can be a correctness bug.

mod gate;
mod ngram;
mod table;

pub use gate::{Decision, DraftGate};
pub use ngram::NgramDrafter;
pub use table::{KEPT_RUNS, Table, TableError};

use crate::token::TokenId;

/// A guess at the next tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// The guess, next token first; empty when there is nothing to go by.
    pub tokens: Vec<TokenId>,
    /// What the first guess rests on.
    pub rests_on: Match,
}

/// The latest tokens, as they were met before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Match {
    /// How many of them. Longer matches are right more often.
    pub length: usize,
    /// Where they were met.
    pub source: Source,
}

/// Where a match was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// In the text that is being written, which tends to go on as it did.
    #[default]
    Own,
    /// In the text of another request. Such a match is right less often than one of the same length in the own text.
    Other,
}

impl Draft {
    /// Forgets the guess, and keeps its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.rests_on = Match::default();
    }
}

/// Something that guesses at the next tokens.
pub trait Drafter: Send {
    /// `off` or `ngram`; stands in statistics.
    fn name(&self) -> &'static str;

    /// Takes in the next committed tokens: first the prompt, then whatever the model said.
    fn observe(&mut self, tokens: &[TokenId]);

    /// Writes a guess of at most `most` tokens into `draft`.
    fn draft(&mut self, most: usize, draft: &mut Draft);
}

/// The drafter that never guesses: plain decoding.
#[derive(Debug, Clone, Copy, Default)]
pub struct Off;

impl Drafter for Off {
    fn name(&self) -> &'static str {
        "off"
    }

    fn observe(&mut self, _: &[TokenId]) {}

    fn draft(&mut self, _: usize, draft: &mut Draft) {
        draft.clear();
    }
}
