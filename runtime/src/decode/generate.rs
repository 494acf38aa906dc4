//! The loop.

use std::ops::ControlFlow;
use std::time::Duration;

use super::{Choose, Clock, Drafting, Statistics};
use crate::draft::{Decision, Draft, Drafter};
use crate::session::{Session, SessionError};
use crate::token::TokenId;

/// Everything a generation runs with. One serves a whole conversation: a drafter goes by what it has observed, so another
/// conversation wants another drafter, which may take over the table of the first.
pub struct Decoder<'a> {
    /// How tokens are chosen.
    pub choose: Choose,
    /// Where drafts come from.
    pub drafter: &'a mut dyn Drafter,
    /// When they are verified.
    pub drafting: Drafting,
    /// What passes are timed with.
    pub clock: &'a dyn Clock,
}

/// Where a generation ends at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits<'a> {
    /// Tokens at most.
    pub max_new: usize,
    /// Tokens that end the text. They are not part of it.
    pub end_of_text: &'a [TokenId],
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// [`Limits::max_new`] tokens were given.
    MaxNew,
    /// The model chose this end-of-text token.
    EndOfText(TokenId),
    /// The cache has no row for the token chosen last, so nothing can be computed behind it.
    ContextFull,
    /// The caller said so.
    Stopped,
}

/// A finished generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The tokens, as they were handed out. The last one is not in the session's cache.
    pub tokens: Vec<TokenId>,
    /// Why there are no more.
    pub end: End,
    /// What it took.
    pub statistics: Statistics,
}

/// Why a generation failed. Tokens handed out before stand.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The session could not run a pass.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Logits without a single number.
    #[error(
        "choosing the token at position {position}: every logit is NaN; run `anepipe gate parity` on the bundle, \
         the shard at fault fails it"
    )]
    NoChoice {
        /// Where the token would stand.
        position: usize,
    },
}

impl Decoder<'_> {
    /// Feeds `prompt` to `session`, behind what it has seen, and generates. Each token is handed to `on_token` as soon as its pass
    /// is done; breaking ends the generation behind that token.
    pub fn generate(
        &mut self,
        session: &mut Session,
        prompt: &[TokenId],
        limits: Limits<'_>,
        mut on_token: impl FnMut(TokenId) -> ControlFlow<()>,
    ) -> Result<Generated, DecodeError> {
        let begun = self.clock.now();
        let mut text = Text { limits, on_token: &mut on_token, tokens: Vec::new(), end: None };
        let mut statistics = Statistics::default();
        if limits.max_new == 0 {
            return Ok(Generated { tokens: text.tokens, end: End::MaxNew, statistics });
        }
        let position = session.position() + prompt.len();
        let logits = session.prefill(prompt)?;
        let first = self.choose.token(logits, position).ok_or(DecodeError::NoChoice { position })?;
        text.tokens.reserve_exact(limits.max_new.min(session.room() + 1));
        self.drafter.observe(prompt);
        self.give(&mut text, &[first]);
        let prefilled = self.clock.now();
        statistics.prefill_passes = prompt.len().div_ceil(session.model().widest());
        statistics.time_to_first_token = prefilled.saturating_sub(begun);

        let block = session.model().block();
        let mut pass =
            Pass { tokens: Vec::with_capacity(block), chosen: Vec::with_capacity(block), last: first };
        let mut draft = Draft::default();
        let end = loop {
            if let Some(end) = text.end {
                break end;
            }
            if session.room() == 0 {
                break End::ContextFull;
            }
            self.draft(session, text.room(), &mut draft);
            let took = self.verify(session, &draft, &mut pass)?;
            let given = self.give(&mut text, &pass.chosen);
            session.commit(given)?;

            statistics.passes += 1;
            statistics.proposed += draft.tokens.len();
            statistics.accepted += given - 1;
            let whole = text.end.is_none();
            if draft.tokens.is_empty() {
                statistics.plain_passes += 1;
                statistics.plain += took;
                self.drafting.plain(took);
            } else {
                statistics.drafted_passes += 1;
                statistics.drafted += took;
                // A pass that the text's end cut short says nothing about drafts.
                if whole {
                    self.drafting.drafted(draft.rests_on, given, took);
                }
            }
        };
        statistics.tokens = text.tokens.len();
        statistics.decode = self.clock.now().saturating_sub(prefilled);
        Ok(Generated { tokens: text.tokens, end, statistics })
    }

    /// Fills `draft` with what the next pass should verify: no more than fits the pass, the cache and the text, and nothing that
    /// is no token.
    fn draft(&mut self, session: &Session, wanted: usize, draft: &mut Draft) {
        draft.clear();
        let model = session.model();
        let slots = model.block().min(session.room()).min(wanted);
        let most = slots.saturating_sub(1);
        if most == 0 || matches!(self.drafting, Drafting::Never) {
            return;
        }
        self.drafter.draft(most, draft);
        let known =
            draft.tokens.iter().take(most).take_while(|&&token| (token as usize) < model.vocab()).count();
        draft.tokens.truncate(known);
        if !draft.tokens.is_empty() && self.drafting.decide(draft.rests_on) == Decision::Plain {
            draft.clear();
        }
    }

    /// Runs one pass over the token chosen last and `draft`, and leaves the model's own tokens in `pass.chosen`: as many as the
    /// draft was right about, and one more. Gives the time it took.
    fn verify(
        &mut self,
        session: &mut Session,
        draft: &Draft,
        pass: &mut Pass,
    ) -> Result<Duration, DecodeError> {
        let begun = self.clock.now();
        let Pass { tokens, chosen, last } = pass;
        tokens.clear();
        tokens.push(*last);
        tokens.extend_from_slice(&draft.tokens);
        chosen.clear();
        let start = session.position();
        session.pass(tokens)?;
        for slot in 0..tokens.len() {
            let position = start + slot + 1;
            let Some(token) = self.choose.behind(session, slot, position)? else {
                if slot == 0 {
                    return Err(DecodeError::NoChoice { position });
                }
                // What is certain is handed out first; the next pass fails.
                break;
            };
            chosen.push(token);
            *last = token;
            if draft.tokens.get(slot) != Some(&token) {
                break;
            }
        }
        Ok(self.clock.now().saturating_sub(begun))
    }

    /// Hands `tokens` out up to the end of the text, if that is among them. Gives how many were looked at.
    fn give(&mut self, text: &mut Text<'_>, tokens: &[TokenId]) -> usize {
        let before = text.tokens.len();
        let mut looked = 0;
        for &token in tokens {
            looked += 1;
            text.push(token);
            if text.end.is_some() {
                break;
            }
        }
        self.drafter.observe(text.tokens.get(before..).unwrap_or_default());
        looked
    }
}

/// The buffers of a pass.
struct Pass {
    /// What goes in: the token chosen last, and the draft.
    tokens: Vec<TokenId>,
    /// What the model makes of it.
    chosen: Vec<TokenId>,
    /// The token chosen last, which no pass has carried yet.
    last: TokenId,
}

/// The text so far.
struct Text<'a> {
    limits: Limits<'a>,
    on_token: &'a mut dyn FnMut(TokenId) -> ControlFlow<()>,
    tokens: Vec<TokenId>,
    end: Option<End>,
}

impl Text<'_> {
    /// Tokens that may still be added.
    fn room(&self) -> usize {
        self.limits.max_new.saturating_sub(self.tokens.len())
    }

    fn push(&mut self, token: TokenId) {
        if self.limits.end_of_text.contains(&token) {
            self.end = Some(End::EndOfText(token));
            return;
        }
        self.tokens.push(token);
        if (self.on_token)(token).is_break() {
            self.end = Some(End::Stopped);
        } else if self.room() == 0 {
            self.end = Some(End::MaxNew);
        }
    }
}
