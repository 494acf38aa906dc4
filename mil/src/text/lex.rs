//! Tokens of MIL text.

use super::error::{ParseError, ParseErrorKind};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word: an identifier, a type, a keyword.
    Word,
    /// Begins with a digit or a minus sign.
    Number,
    /// In quotes, which the span includes.
    Text,
    /// One of `()[]{}<>,;=?`.
    Mark(u8),
    /// `->`
    Arrow,
    /// `...`
    Ellipsis,
    /// The end of the text.
    End,
}

/// A token and the bytes it spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Cuts MIL text into tokens.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The next token; at the end, [`Kind::End`] for ever.
    pub(super) fn next(&mut self) -> Result<Token, ParseError> {
        let bytes = self.text.as_bytes();
        let start = self.skip(self.position, |b| matches!(b, b' ' | b'\n' | b'\r' | b'\t'));
        let Some(&first) = bytes.get(start) else {
            self.position = start;
            return Ok(Token { kind: Kind::End, start, end: start });
        };
        let (kind, end) = match first {
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => (Kind::Word, self.skip(start, is_word_byte)),
            b'0'..=b'9' => (Kind::Number, self.number_end(start)),
            b'-' if bytes.get(start + 1) == Some(&b'>') => (Kind::Arrow, start + 2),
            b'-' => (Kind::Number, self.number_end(start + 1)),
            b'"' => (Kind::Text, self.text_end(start)?),
            b'.' if self.text[start..].starts_with("...") => (Kind::Ellipsis, start + 3),
            b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b',' | b';' | b'=' | b'?' => {
                (Kind::Mark(first), start + 1)
            }
            _ => {
                let character = self.text[start..].chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
                return Err(self.error(start, ParseErrorKind::UnknownCharacter(character)));
            }
        };
        self.position = end;
        Ok(Token { kind, start, end })
    }

    /// The first position from `from` on whose byte is not `wanted`.
    fn skip(&self, from: usize, wanted: impl Fn(u8) -> bool) -> usize {
        let rest = self.text.as_bytes().get(from..).unwrap_or_default();
        from + rest.iter().position(|&b| !wanted(b)).unwrap_or(rest.len())
    }

    /// Where the number ends whose digits begin at `from`: letters and digits, points, and a sign after an exponent's
    /// mark.
    fn number_end(&self, from: usize) -> usize {
        let bytes = self.text.as_bytes();
        let hexadecimal = bytes.get(from..).is_some_and(|rest| rest.starts_with(b"0x"));
        let marks_exponent = |b: u8| if hexadecimal { b == b'p' } else { b == b'e' };
        let mut end = from;
        while let Some(&b) = bytes.get(end) {
            let signed = matches!(b, b'+' | b'-') && end > from && marks_exponent(bytes[end - 1]);
            if !(b.is_ascii_alphanumeric() || b == b'.' || signed) {
                break;
            }
            end += 1;
        }
        end
    }

    /// Where the string ends whose opening quote is at `start`.
    fn text_end(&self, start: usize) -> Result<usize, ParseError> {
        let bytes = self.text.as_bytes();
        let mut position = start + 1;
        loop {
            match bytes.get(position) {
                None => return Err(self.error(start, ParseErrorKind::UnterminatedString)),
                Some(b'"') => return Ok(position + 1),
                // Whatever a backslash precedes cannot close the string.
                Some(b'\\') => position += 2,
                Some(_) => position += 1,
            }
        }
    }

    pub(super) fn error(&self, offset: usize, kind: ParseErrorKind) -> ParseError {
        ParseError::at(self.text, offset, kind)
    }
}

/// Whether `byte` may stand in an identifier after its first letter (`[A-Za-z_][A-Za-z0-9_@]*`, MIL.proto).
pub(super) fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'@'
}
