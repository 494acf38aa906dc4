//! Tokens that are looked for in a text before it is cut and joined: control tokens, where the caller allows them, and the
//! ones a vocabulary's authors defined as inseparable.

use super::metadata::Text;
use super::vocabulary::{TokenKind, Vocabulary};
use crate::token::TokenId;

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fragment<'t> {
    /// Text yet to be encoded; never empty.
    Text(&'t str),
    /// A token that was spelled out.
    Token(TokenId),
}

#[derive(Debug)]
struct Special {
    text: String,
    id: TokenId,
    control: bool,
}

/// All tokens that are looked for, longest first.
#[derive(Debug)]
pub(super) struct Specials(Vec<Special>);

impl Specials {
    /// The special tokens of a vocabulary whose tokens are written `texts`.
    pub(super) fn new(vocabulary: &Vocabulary, texts: &[Text<'_>]) -> Self {
        let special = |(id, kind): (TokenId, TokenKind)| {
            let control = match kind {
                TokenKind::Control => true,
                TokenKind::UserDefined => false,
                _ => return None,
            };
            let text = texts.get(id as usize).filter(|text| !text.is_empty())?.to_string();
            Some(Special { text, id, control })
        };
        let mut specials: Vec<Special> = vocabulary.kinds().filter_map(special).collect();
        specials.sort_by_key(|special| (std::cmp::Reverse(special.text.len()), special.id));
        Self(specials)
    }

    /// Parts `text` at special tokens; at control tokens only if `control`. A longer one counts before a shorter one,
    /// wherever they stand, as in llama.cpp.
    pub(super) fn split<'t>(&self, text: &'t str, control: bool) -> Vec<Fragment<'t>> {
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(text));
        }
        for special in self.0.iter().filter(|special| control || !special.control) {
            if !text.contains(&special.text) {
                continue;
            }
            let whole = std::mem::take(&mut fragments);
            for fragment in whole {
                match fragment {
                    Fragment::Text(text) => cut(text, special, &mut fragments),
                    token @ Fragment::Token(_) => fragments.push(token),
                }
            }
        }
        fragments
    }

    /// The texts of the control tokens.
    pub(super) fn control(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|special| special.control).map(|special| special.text.as_str())
    }
}

fn cut<'t>(text: &'t str, special: &Special, fragments: &mut Vec<Fragment<'t>>) {
    for (nth, part) in text.split(special.text.as_str()).enumerate() {
        if nth > 0 {
            fragments.push(Fragment::Token(special.id));
        }
        if !part.is_empty() {
            fragments.push(Fragment::Text(part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_tokens_count_before_shorter_ones() {
        let special = |text: &str, id, control| Special { text: text.to_owned(), id, control };
        let specials =
            Specials(vec![special("<abc>", 1, true), special("<ab", 2, false), special("c", 3, true)]);
        let cases: &[(&str, bool, &[Fragment<'_>])] = &[
            ("", true, &[]),
            ("<abc>", true, &[Fragment::Token(1)]),
            ("<abc>", false, &[Fragment::Token(2), Fragment::Text("c>")]),
            (
                "x<abcc",
                true,
                &[Fragment::Text("x"), Fragment::Token(2), Fragment::Token(3), Fragment::Token(3)],
            ),
            ("<ab<abc><ab", true, &[Fragment::Token(2), Fragment::Token(1), Fragment::Token(2)]),
        ];
        for (text, control, expected) in cases {
            assert_eq!(&specials.split(text, *control), expected, "{text:?}");
        }
    }
}
