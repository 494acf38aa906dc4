//! Drafters: guesses at the next tokens that cost next to nothing.
//!
//! A draft changes how many passes a text takes, never the text: the loop keeps only what the model itself would have
//! said. So a drafter may be as wrong as it likes, and nothing here can be a correctness bug.

mod gate;
mod ngram;
mod table;

pub use gate::{Decision, DraftGate};
pub use ngram::NgramDrafter;
pub use table::{Table, TableError};

use crate::token::TokenId;

/// A guess at the next tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// The guess, next token first; empty when there is nothing to go by.
    pub tokens: Vec<TokenId>,
    /// How many of the latest tokens the first guess rests on. Longer matches are right more often.
    pub match_length: usize,
}

impl Draft {
    /// Forgets the guess, and keeps its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.match_length = 0;
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
