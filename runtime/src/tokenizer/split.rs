//! Cutting a text into words, which byte-pair merges never cross.
//!
//! Each vocabulary was made with one expression, and only that one gives the tokens its model was trained on. The files name
//! it in `tokenizer.ggml.pre`. The expressions look ahead in one place: of spaces before a word, the last belongs to the
//! word (`\s+(?!\S)`). Here that is done by hand, and the rest by an engine that needs no more time for a hostile text than
//! for any other.

use regex::Regex;

use super::metadata::Metadata;
use super::{TokenizerError, keys};

/// `gpt-2`, without its last two alternatives `\s+(?!\S)|\s+`.
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";

/// `gpt-4o` (o200k), likewise. As its authors published it: llama.cpp's rendering of it takes letters beyond ASCII for both
/// upper and lower case, and cuts words at marks, so the two differ on words like `éÀ`.
const GPT_4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
);

/// A rule for cutting.
#[derive(Debug)]
pub(super) struct Splitter {
    word: Regex,
    /// Whether spaces that end in a line break are a word of their own, all of them.
    line_breaks_end_words: bool,
}

impl Splitter {
    /// The rule that `tokenizer.ggml.pre` names.
    pub(super) fn read(metadata: &Metadata<'_>) -> Result<Self, TokenizerError> {
        // llama.cpp guesses at a rule where none is named, and warns that answers get worse. A guess is no rule.
        let name: String = metadata.required(keys::PRE)?;
        Self::named(&name).ok_or_else(|| metadata.unsupported(keys::PRE, name, r#""gpt-2" and "gpt-4o""#))
    }

    fn named(name: &str) -> Option<Self> {
        let (expression, line_breaks_end_words) = match name {
            "gpt-2" => (GPT_2, false),
            "gpt-4o" => (GPT_4O, true),
            _ => return None,
        };
        // Both compile, as the tests see; an error would read as an unknown rule.
        Some(Self { word: Regex::new(expression).ok()?, line_breaks_end_words })
    }

    /// The words of `text`, in order; together they are the text.
    pub(super) fn split<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let word;
            (word, rest) = rest.split_at_checked(self.next(rest)?)?;
            Some(word)
        })
    }

    /// The length of the first word of `text`, in bytes; `None` at the end.
    fn next(&self, text: &str) -> Option<usize> {
        if text.is_empty() {
            return None;
        }
        let end = match self.word.find(text) {
            Some(found) if found.start() == 0 => found.end(),
            // What no alternative takes is a word too. (The expressions take everything.)
            Some(found) => return Some(found.start()),
            None => return Some(text.len()),
        };
        let (word, after) = text.split_at(end);
        // Only the alternative `\s+` gives nothing but spaces, `\s*[\r\n]+` aside, which is whole.
        if after.is_empty() || !word.chars().all(char::is_whitespace) {
            return Some(end);
        }
        if self.line_breaks_end_words && word.ends_with(['\r', '\n']) {
            return Some(end);
        }
        let last = word.chars().next_back().map_or(0, char::len_utf8);
        Some(if end > last { end - last } else { end })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split<'t>(rule: &str, text: &'t str) -> Vec<&'t str> {
        Splitter::named(rule).expect("a known rule").split(text).collect()
    }

    #[test]
    fn the_last_space_belongs_to_the_word() {
        assert_eq!(split("gpt-2", "a   b  "), ["a", "  ", " b", "  "]);
        assert_eq!(split("gpt-4o", "a   b  "), ["a", "  ", " b", "  "]);
        assert_eq!(split("gpt-2", "\u{3000}\u{3000}x"), ["\u{3000}", "\u{3000}", "x"]);
        assert_eq!(split("gpt-4o", "\u{3000}\u{3000}x"), ["\u{3000}", "\u{3000}x"]);
    }

    #[test]
    fn line_breaks_are_words_where_the_rule_says_so() {
        assert_eq!(split("gpt-2", "a \n\n b"), ["a", " \n\n", " b"]);
        assert_eq!(split("gpt-2", "a\n\nb"), ["a", "\n", "\n", "b"]);
        assert_eq!(split("gpt-4o", "a\n\nb"), ["a", "\n\n", "b"]);
        assert_eq!(split("gpt-4o", "a;\n/b"), ["a", ";\n/", "b"]);
    }

    #[test]
    fn case_and_marks_count_beyond_ascii() {
        assert_eq!(split("gpt-4o", "éÀ"), ["é", "À"]);
        assert_eq!(split("gpt-4o", "e\u{301}t"), ["e\u{301}t"]);
    }

    #[test]
    fn contractions_and_case_part_words() {
        assert_eq!(split("gpt-2", "we'll'LL"), ["we", "'ll", "'", "LL"]);
        assert_eq!(split("gpt-4o", "we'LL HTTPServer"), ["we'LL", " HTTPServer"]);
        assert_eq!(split("gpt-4o", "camelCase 12345"), ["camel", "Case", " ", "123", "45"]);
    }

    proptest! {
        #[test]
        fn words_are_the_text(text in "(\\PC|[ \t\r\n\u{a0}']){0,40}") {
            for rule in ["gpt-2", "gpt-4o"] {
                let words = split(rule, &text);
                prop_assert_eq!(words.concat(), text.as_str());
                prop_assert!(words.iter().all(|word| !word.is_empty()));
            }
        }
    }
}
