//! A place in the token stream, with one token of lookahead.

use super::super::MAX_DEPTH;
use super::super::error::{ParseError, ParseErrorKind};
use super::super::lex::{Kind, Lexer, Token};

/// Stands before `current`; `next` is known too.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    lexer: Lexer<'a>,
    current: Token,
    next: Token,
    depth: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, ParseError> {
        let mut lexer = Lexer::new(text);
        let current = lexer.next()?;
        let next = lexer.next()?;
        Ok(Self { lexer, current, next, depth: 0 })
    }

    /// What stands here.
    pub(super) fn kind(&self) -> Kind {
        self.current.kind
    }

    /// What stands behind it.
    pub(super) fn ahead(&self) -> Kind {
        self.next.kind
    }

    /// Byte offset of what stands here.
    pub(super) fn start(&self) -> usize {
        self.current.start
    }

    /// The text of what stands here.
    pub(super) fn slice(&self) -> &'a str {
        self.lexer.text().get(self.current.start..self.current.end).unwrap_or_default()
    }

    /// Whether `mark` stands here.
    pub(super) fn at(&self, mark: u8) -> bool {
        self.current.kind == Kind::Mark(mark)
    }

    /// Steps over what stands here and returns its text.
    pub(super) fn advance(&mut self) -> Result<&'a str, ParseError> {
        let slice = self.slice();
        self.current = self.next;
        self.next = self.lexer.next()?;
        Ok(slice)
    }

    /// Steps over `mark` if it stands here.
    pub(super) fn eat(&mut self, mark: u8) -> Result<bool, ParseError> {
        let found = self.at(mark);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Steps over `mark`; `what` says it in words.
    pub(super) fn expect(&mut self, mark: u8, what: &'static str) -> Result<(), ParseError> {
        if self.eat(mark)? { Ok(()) } else { Err(self.expected(what)) }
    }

    /// Steps over the word `keyword`; `what` says it in words.
    pub(super) fn keyword(&mut self, keyword: &str, what: &'static str) -> Result<(), ParseError> {
        if self.kind() != Kind::Word || self.slice() != keyword {
            return Err(self.expected(what));
        }
        self.advance().map(drop)
    }

    /// Steps over a word, `what` it is, and returns it.
    pub(super) fn word(&mut self, what: &'static str) -> Result<&'a str, ParseError> {
        if self.kind() == Kind::Word { self.advance() } else { Err(self.expected(what)) }
    }

    /// Steps over a number, `what` it is, and returns its text.
    pub(super) fn number(&mut self, what: &'static str) -> Result<&'a str, ParseError> {
        if self.kind() == Kind::Number { self.advance() } else { Err(self.expected(what)) }
    }

    /// Reads items between commas up to `close` and steps over it; `what` may follow an item.
    pub(super) fn separated<T>(
        &mut self,
        close: u8,
        what: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = Vec::new();
        if self.eat(close)? {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.eat(close)? {
                return Ok(items);
            }
            self.expect(b',', what)?;
        }
    }

    /// Reads something that may contain its own kind; refuses when that goes too deep.
    pub(super) fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(self.start(), ParseErrorKind::TooDeep));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    pub(super) fn error(&self, offset: usize, kind: ParseErrorKind) -> ParseError {
        self.lexer.error(offset, kind)
    }

    /// The fault that something other than `what` stands here.
    pub(super) fn expected(&self, expected: &'static str) -> ParseError {
        const SHOWN: usize = 40;
        let found = match self.kind() {
            Kind::End => "the end of the text".to_owned(),
            _ if self.slice().chars().nth(SHOWN).is_some() => {
                format!("`{}…`", self.slice().chars().take(SHOWN).collect::<String>())
            }
            _ => format!("`{}`", self.slice()),
        };
        self.error(self.start(), ParseErrorKind::Expected { expected, found })
    }

    pub(super) fn duplicate(&self, offset: usize, what: &'static str, name: &str) -> ParseError {
        self.error(offset, ParseErrorKind::Duplicate { what, name: name.to_owned() })
    }
}
