//! Drafters that know what is coming.

use anepipe_runtime::draft::{Draft, Drafter};
use anepipe_runtime::token::TokenId;

/// Drafts what plain decoding gave, with every so many tokens spoiled.
#[derive(Debug)]
pub(super) struct Foretold<'a> {
    truth: &'a [TokenId],
    /// Every so many tokens of the truth are replaced by others; 1 spoils all.
    spoil_every: usize,
    vocab: TokenId,
    /// Tokens of the prompt not observed yet.
    prompt: usize,
    observed: usize,
}

impl<'a> Foretold<'a> {
    pub(super) fn new(prompt: &[TokenId], truth: &'a [TokenId], spoil_every: usize, vocab: TokenId) -> Self {
        Self { truth, spoil_every, vocab, prompt: prompt.len(), observed: 0 }
    }

    fn foretell(&self, position: usize) -> Option<TokenId> {
        let token = *self.truth.get(position)?;
        let spoiled = (position + 1).is_multiple_of(self.spoil_every);
        Some(if spoiled { (token + 1) % self.vocab.max(1) } else { token })
    }
}

impl Drafter for Foretold<'_> {
    fn name(&self) -> &'static str {
        "foretold"
    }

    fn observe(&mut self, tokens: &[TokenId]) {
        let of_prompt = tokens.len().min(self.prompt);
        self.prompt -= of_prompt;
        self.observed += tokens.len() - of_prompt;
    }

    fn draft(&mut self, most: usize, draft: &mut Draft) {
        draft.clear();
        draft.tokens.extend((self.observed..).take(most).map_while(|position| self.foretell(position)));
        draft.rests_on.length = draft.tokens.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafted(drafter: &mut Foretold<'_>, most: usize) -> Vec<TokenId> {
        let mut draft = Draft::default();
        drafter.draft(most, &mut draft);
        draft.tokens
    }

    #[test]
    fn the_truth_is_foretold_from_where_the_text_is_and_spoiled_on_schedule() {
        let truth = [10, 11, 12, 13, 9];
        let mut drafter = Foretold::new(&[1, 2], &truth, 3, 20);
        drafter.observe(&[1, 2]);
        drafter.observe(&[10]);
        assert_eq!(drafted(&mut drafter, 3), [11, 13, 13], "the third token is spoiled");
        drafter.observe(&[11, 12, 13]);
        assert_eq!(drafted(&mut drafter, 3), [9], "nothing is known behind the end");
        let mut wrong = Foretold::new(&[1], &truth, 1, 14);
        wrong.observe(&[1, 10]);
        assert_eq!(drafted(&mut wrong, 4), [12, 13, 0, 10], "every token is another one of the vocabulary");
    }
}
