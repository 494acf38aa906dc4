//! Text from tokens, one at a time, never half a character.

use super::Tokenizer;
use super::TokenizerError;
use super::vocabulary::TokenKind;
use crate::token::TokenId;

/// Turns tokens into text as they come.
///
/// A token may end within a character; its bytes wait for the next one. Bytes that are no UTF-8 become U+FFFD, the same ones
/// as in [`String::from_utf8_lossy`] of the whole. What is given out, in order, is [`Tokenizer::decode`] of all tokens.
#[derive(Debug)]
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    /// The beginning of a character: at most three bytes.
    held: Vec<u8>,
    /// Whether a space here is one that the vocabulary puts before every text.
    at_start: bool,
}

impl<'t> TextStream<'t> {
    /// A stream that goes on after `last`, or begins a text.
    pub(super) fn after(tokenizer: &'t Tokenizer, last: Option<TokenId>) -> Self {
        Self { tokenizer, held: Vec::new(), at_start: last.is_none_or(|id| tokenizer.parts_text(id)) }
    }

    /// Takes the next token and gives the text that is certain by now. Control tokens have none.
    pub fn push(&mut self, id: TokenId) -> Result<String, TokenizerError> {
        let vocabulary = &self.tokenizer.vocabulary;
        let (Some(kind), Some(mut piece)) = (vocabulary.kind(id), vocabulary.piece(id)) else {
            return Err(TokenizerError::NoSuchToken { id, vocabulary: vocabulary.len() });
        };
        if self.at_start && self.tokenizer.model.space_prefix() && kind == TokenKind::Text {
            piece = piece.strip_prefix(b" ").unwrap_or(piece);
        }
        self.at_start = self.tokenizer.parts_text(id);
        if kind == TokenKind::Control {
            // Whatever comes next does not finish the character that was begun.
            return Ok(self.finish());
        }
        self.held.extend_from_slice(piece);
        Ok(self.take_whole())
    }

    /// Gives what was held back: the character that no token finished, as U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }

    /// Takes out everything but the beginning of a character at the end.
    fn take_whole(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.held.as_slice();
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    rest = &[];
                }
                Err(error) => {
                    let (whole, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    let Some(bad) = error.error_len() else {
                        rest = after;
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[bad..];
                }
            }
        }
        self.held = rest.to_vec();
        text
    }
}
