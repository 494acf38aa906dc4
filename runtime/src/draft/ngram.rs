//! Guessing from what was said before: the longest suffix that occurred already, and what followed it most often.

use super::table::{MAX_RUN, Table};
use super::{Draft, Drafter, Match, Source};
use crate::token::TokenId;

/// Runs that one request's own table may hold: eight a token, for the longest context.
const MOST_RUNS: usize = 1 << 20;

/// Drafts by longest suffix, backing off to one token; first from this request, then from a table kept across requests.
#[derive(Debug)]
pub struct NgramDrafter {
    own: Table,
    shared: Option<Table>,
    /// The last [`MAX_RUN`] committed tokens, and room for guesses behind them.
    recent: Vec<TokenId>,
}

impl NgramDrafter {
    /// A drafter that knows nothing yet.
    pub fn new() -> Self {
        Self { own: Table::new(MOST_RUNS), shared: None, recent: Vec::new() }
    }

    /// A drafter that also goes by what other requests said.
    pub fn with_table(table: Table) -> Self {
        Self { shared: Some(table), ..Self::new() }
    }

    /// The table kept across requests, this request's tokens included.
    pub fn into_table(self) -> Option<Table> {
        self.shared
    }

    /// The next token after `self.recent`: the request's own text first, unless the shared table knows a longer run.
    fn guess(&self) -> Option<(TokenId, Match)> {
        let of = |table: &Table, source: Source| {
            let (token, length) = table.guess(&self.recent)?;
            Some((token, Match { length, source }))
        };
        let own = of(&self.own, Source::Own);
        let shared = self.shared.as_ref().and_then(|table| of(table, Source::Other));
        match (own, shared) {
            (Some(own), Some(shared)) if shared.1.length > own.1.length => Some(shared),
            (own, shared) => own.or(shared),
        }
    }
}

impl Default for NgramDrafter {
    fn default() -> Self {
        Self::new()
    }
}

impl Drafter for NgramDrafter {
    fn name(&self) -> &'static str {
        "ngram"
    }

    fn observe(&mut self, tokens: &[TokenId]) {
        for &token in tokens {
            self.own.count(&self.recent, token);
            if let Some(shared) = &mut self.shared {
                shared.count(&self.recent, token);
            }
            self.recent.push(token);
            if self.recent.len() > MAX_RUN {
                self.recent.remove(0);
            }
        }
    }

    fn draft(&mut self, most: usize, draft: &mut Draft) {
        draft.clear();
        let committed = self.recent.len();
        while draft.tokens.len() < most {
            let Some((token, rests_on)) = self.guess() else { break };
            if draft.tokens.is_empty() {
                draft.rests_on = rests_on;
            }
            draft.tokens.push(token);
            self.recent.push(token);
        }
        self.recent.truncate(committed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafted(drafter: &mut NgramDrafter, most: usize) -> (Vec<TokenId>, usize) {
        let mut draft = Draft::default();
        drafter.draft(most, &mut draft);
        (draft.tokens, draft.rests_on.length)
    }

    #[test]
    fn a_repeated_text_is_drafted_on() {
        let mut drafter = NgramDrafter::new();
        drafter.observe(&[5, 6, 7, 8, 9, 1, 5, 6]);
        assert_eq!(drafted(&mut drafter, 3), (vec![7, 8, 9], 2));
        assert_eq!(drafted(&mut drafter, 3), (vec![7, 8, 9], 2), "drafting leaves no trace");
        drafter.observe(&[7]);
        assert_eq!(drafted(&mut drafter, 2), (vec![8, 9], 3));
    }

    #[test]
    fn a_loop_is_drafted_around() {
        let mut drafter = NgramDrafter::new();
        drafter.observe(&[4, 4]);
        assert_eq!(drafted(&mut drafter, 3).0, [4, 4, 4]);
    }

    #[test]
    fn nothing_is_drafted_from_nothing() {
        let mut drafter = NgramDrafter::new();
        assert_eq!(drafted(&mut drafter, 3), (vec![], 0));
        drafter.observe(&[1, 2, 3]);
        assert_eq!(drafted(&mut drafter, 3), (vec![], 0));
        drafter.observe(&[1]);
        assert_eq!(drafted(&mut drafter, 0), (vec![], 0));
    }

    #[test]
    fn a_shared_table_helps_where_the_request_knows_less() {
        let mut first = NgramDrafter::with_table(Table::new(1000));
        first.observe(&[1, 2, 3, 4, 5]);
        let mut second = NgramDrafter::with_table(first.into_table().expect("a table"));
        second.observe(&[2, 9, 1, 2]);
        assert_eq!(drafted(&mut second, 3), (vec![3, 4, 5], 2));
        let mut draft = Draft::default();
        second.draft(3, &mut draft);
        assert_eq!(draft.rests_on, Match { length: 2, source: Source::Other });
        second.observe(&[9, 1]);
        second.draft(3, &mut draft);
        assert_eq!(draft.tokens, [2, 9, 1], "its own text goes before one that knows no more");
        assert_eq!(draft.rests_on, Match { length: 3, source: Source::Own });
    }
}
