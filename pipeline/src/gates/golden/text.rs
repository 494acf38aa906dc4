//! The text that both sides read.

use serde::{Deserialize, Serialize};

/// Plain English and a little code, about 200 tokens to a large vocabulary; used when the caller gives no text.
pub const DEFAULT_TEXT: &str = include_str!("text.txt");

/// Tokens of a text that are looked at if nothing else is said.
pub const DEFAULT_TOKENS: usize = 128;

/// Where the tokens come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TextSource {
    /// [`DEFAULT_TEXT`].
    BuiltIn,
    /// A text of the caller's.
    Given {
        /// What to call it, such as a file's name.
        name: String,
    },
    /// Token ids, for a vocabulary without a usable tokenizer.
    TokenIds,
}

/// A text as tokens, cut to what is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    tokens: Vec<u32>,
    source: TextSource,
}

impl Text {
    /// The first `limit` of `tokens`, but no more than `context`.
    pub fn new(mut tokens: Vec<u32>, source: TextSource, limit: usize, context: u32) -> Self {
        tokens.truncate(limit.min(context as usize));
        Self { tokens, source }
    }

    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Where they come from.
    pub fn source(&self) -> &TextSource {
        &self.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_to_the_limit_and_to_the_context() {
        for (limit, context, left) in [(128, 512, 10), (4, 512, 4), (128, 3, 3), (0, 512, 0)] {
            let text = Text::new((0..10).collect(), TextSource::BuiltIn, limit, context);
            assert_eq!(text.tokens().len(), left, "limit {limit}, context {context}");
        }
    }
}
