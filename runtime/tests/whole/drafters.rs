//! Drafters that are right or wrong on purpose.

use anepipe_runtime::draft::{Draft, Drafter};
use anepipe_runtime::token::TokenId;

use super::VOCAB;
use crate::fixture::random::Random;

/// Proposes the tokens of a known text, each wrong with some probability.
pub struct Scripted {
    text: Vec<TokenId>,
    observed: usize,
    /// Of a hundred tokens, how many are right.
    right: usize,
    random: Random,
}

impl Scripted {
    /// `text` is the prompt and what follows it.
    pub fn new(text: Vec<TokenId>, right: usize, seed: u64) -> Self {
        Self { text, observed: 0, right, random: Random(seed) }
    }
}

impl Drafter for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn observe(&mut self, tokens: &[TokenId]) {
        self.observed += tokens.len();
    }

    fn draft(&mut self, most: usize, draft: &mut Draft) {
        draft.clear();
        draft.rests_on.length = 1 + self.random.below(9);
        // More than was asked for, now and then.
        let count = most + self.random.below(3);
        for &token in self.text.iter().skip(self.observed).take(count) {
            let right = self.random.below(100) < self.right;
            draft.tokens.push(if right { token } else { self.random.below(VOCAB as usize) as TokenId });
        }
    }
}

/// Proposes anything, tokens that do not exist among it.
pub struct Garbage(pub Random);

impl Drafter for Garbage {
    fn name(&self) -> &'static str {
        "garbage"
    }

    fn observe(&mut self, _: &[TokenId]) {}

    fn draft(&mut self, _: usize, draft: &mut Draft) {
        draft.clear();
        draft.rests_on.length = self.0.below(20);
        let count = self.0.below(9);
        draft.tokens.extend((0..count).map(|_| match self.0.below(20) {
            0 => TokenId::MAX,
            1 => VOCAB,
            _ => self.0.below(VOCAB as usize) as TokenId,
        }));
    }
}
