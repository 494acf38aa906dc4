//! Joining neighbours, best pair first: what every byte-pair encoding comes down to, done by the `tokenizers` crate.
//!
//! A text starts as its characters. Of all neighbours that the list of merges names, the pair that stands first in it is joined,
//! the leftmost of equal ones, until no pair is left. Time is `n log n`, so a word of a million letters is no trouble.

use tokenizers::Model as _;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

use crate::token::TokenId;

/// A vocabulary and its list of merges.
#[derive(Debug)]
pub(super) struct Merger(BPE);

impl Merger {
    /// A merger of `tokens`, no two of one text or one id, by `merges`, best first. `Err` is what is wrong with the list: every
    /// half and every two halves together must be tokens. Of a pair that is listed twice, the last place counts.
    ///
    /// A character that is no token becomes its bytes' tokens, named as `<0x0A>`; without those it would be lost.
    pub(super) fn new(tokens: Vocab, merges: Merges) -> Result<Self, String> {
        // The builder has errors for all other faults of a list, but copies each pair into as many bytes as the longest token has.
        let longest = tokens.keys().map(String::len).max().unwrap_or(0);
        if let Some((left, right)) = merges.iter().find(|(left, right)| left.len() + right.len() > longest) {
            return Err(format!("{left:?} and {right:?} make no token"));
        }
        BPE::builder()
            .vocab_and_merges(tokens, merges)
            .byte_fallback(true)
            // What the crate remembers of words outlives the model, in every thread that used it.
            .cache_capacity(0)
            .build()
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// The ids of `text`, each with the part of it that it stands for: all of a token, or one byte of a character that is none.
    ///
    /// `None` if the crate refuses, which it has no reason for: what it knows to refuse is an unknown token that is itself
    /// unknown, and no unknown token is used.
    pub(super) fn merge<'t>(&self, text: &'t str) -> Option<impl Iterator<Item = (TokenId, &'t [u8])>> {
        let tokens = self.0.tokenize(text).ok()?;
        Some(tokens.into_iter().map(|token| {
            let (start, end) = token.offsets;
            (token.id, text.as_bytes().get(start..end).unwrap_or_default())
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Merges {
        pairs.iter().map(|&(left, right)| (left.to_owned(), right.to_owned())).collect()
    }

    fn numbered(tokens: &[&str]) -> Vocab {
        (0..).zip(tokens).map(|(id, &token)| (token.to_owned(), id)).collect()
    }

    /// Looks at all pairs for every join.
    fn naive<'t>(text: &'t str, merges: &[(String, String)]) -> Vec<&'t str> {
        let mut borders: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        loop {
            let ranked = borders.windows(3).enumerate().filter_map(|(at, border)| {
                let (left, right) = (&text[border[0]..border[1]], &text[border[1]..border[2]]);
                Some((merges.iter().position(|merge| merge.0 == left && merge.1 == right)?, at))
            });
            let Some((_, at)) = ranked.min() else { break };
            borders.remove(at + 1);
        }
        borders.windows(2).map(|border| &text[border[0]..border[1]]).collect()
    }

    #[test]
    fn a_list_that_names_what_is_no_token_is_refused() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("a", "b"), ("ab", "c")], "\"ab\" and \"c\" make no token"),
            (&[("a", "x")], "Token `x` out of vocabulary"),
            (&[("x", "a")], "Token `x` out of vocabulary"),
            (&[("b", "a")], "Token `ba` out of vocabulary"),
        ];
        for (merges, reason) in cases {
            let refused = Merger::new(numbered(&["a", "b", "c", "ab"]), owned(merges)).unwrap_err();
            assert_eq!(&refused, reason);
        }
        assert!(Merger::new(Vocab::default(), owned(&[("", "")])).is_err());
        assert!(Merger::new(Vocab::default(), Merges::new()).is_ok());
    }

    #[test]
    fn what_is_no_token_becomes_its_bytes_each_with_its_own() {
        let merger = Merger::new(numbered(&["a", "aa", "<0xC3>", "<0xA9>"]), owned(&[("a", "a")])).unwrap();
        let merged: Vec<(TokenId, &[u8])> = merger.merge("aaéa").unwrap().collect();
        assert_eq!(merged, [(1, b"aa".as_slice()), (2, &[0xc3]), (3, &[0xa9]), (0, b"a")]);
    }

    #[test]
    fn no_list_joins_the_leftmost_of_two_pairs() {
        let pairs = [("a", "b"), ("b", "a")];
        for (order, aba, bab) in
            [(pairs, ["ab", "a"], ["b", "ab"]), ([pairs[1], pairs[0]], ["a", "ba"], ["ba", "b"])]
        {
            let merger = Merger::new(numbered(&["a", "b", "ab", "ba"]), owned(&order)).unwrap();
            for (text, expected) in [("aba", aba), ("bab", bab)] {
                let parts: Vec<&[u8]> = merger.merge(text).unwrap().map(|(_, part)| part).collect();
                assert_eq!(parts, expected.map(str::as_bytes), "{order:?}");
            }
        }
    }

    proptest! {
        /// Any list over what three letters make: tokens with several ways to be made, and with none.
        #[test]
        fn the_crate_joins_what_looking_at_all_pairs_would(
            pairs in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..12),
            order in any::<prop::sample::Index>(),
            text in "[abé]{0,24}",
        ) {
            let mut tokens: Vec<String> = ["a", "b", "é"].map(str::to_owned).into();
            let mut merges = Merges::new();
            for (left, right) in pairs {
                let merge = (left.get(&tokens).clone(), right.get(&tokens).clone());
                let joined = [&*merge.0, &*merge.1].concat();
                if joined.len() <= 12 && !merges.contains(&merge) {
                    if !tokens.contains(&joined) {
                        tokens.push(joined);
                    }
                    merges.push(merge);
                }
            }
            // Not only lists whose halves are made before they are joined.
            let at = order.index(merges.len() + 1);
            merges.rotate_left(at);

            let vocabulary: Vocab = tokens.iter().cloned().zip(0..).collect();
            let merger = Merger::new(vocabulary, merges.clone()).unwrap();
            let merged: Vec<(TokenId, &[u8])> = merger.merge(&text).unwrap().collect();
            let parts: Vec<&str> = naive(&text, &merges);
            prop_assert_eq!(merged.len(), parts.len());
            for ((id, bytes), part) in merged.into_iter().zip(parts) {
                prop_assert_eq!((tokens[id as usize].as_str(), bytes), (part, part.as_bytes()));
            }
        }
    }
}
