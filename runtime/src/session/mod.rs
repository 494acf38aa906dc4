//! Sessions: one conversation with a loaded model.
//!
//! A [`Model`] holds what never changes (shards, embedding, rotary frequencies) and is shared; a [`Session`] holds what one
//! conversation changes: the KV cache of each shard, the buffers of a pass, and how many tokens are committed.
//!
//! A pass runs 1 to T tokens at the positions behind those committed, through the narrowest program that holds them, and commits
//! nothing. Logits of its tokens can then be asked for, and as many of them as are wanted be committed. Committing moves a number
//! and nothing else: what tokens that were not committed left in the cache lies behind the attention mask until the next
//! pass overwrites it.
//!
//! Every buffer is allocated when a session is made. After the first pass of each width, which sizes the device's own, a pass
//! allocates nothing on the portable device.

mod embedding;
mod error;
mod model;
mod occupy;
mod slots;

use std::sync::Arc;

use half::f16;

pub use error::SessionError;
pub use model::Model;

use crate::device::State;
use crate::token::TokenId;
use slots::Slots;

/// One conversation: tokens at positions `0..position`, and whatever the latest pass looked at behind them.
pub struct Session {
    model: Arc<Model>,
    /// One for each shard of layers.
    layers: Vec<Box<dyn State>>,
    /// One for each head; heads keep nothing in them.
    heads: Vec<Box<dyn State>>,
    /// One for each of the model's programs.
    slots: Vec<Slots>,
    /// Rows of a pass on their way in, `[T, d]`.
    rows: Vec<f16>,
    /// The whole vocabulary's logits of one token.
    logits: Vec<f16>,
    position: usize,
    pass: Pass,
    broken: bool,
}

/// What the latest pass left to look at.
#[derive(Debug, Clone, Copy, Default)]
struct Pass {
    /// Index of its program.
    program: usize,
    /// Its tokens; none once something is committed.
    tokens: usize,
    /// Where the heads' outputs are: index of the program they ran through, and the pass's slot that is in their first one.
    heads: Option<(usize, usize)>,
}

impl Session {
    /// A session that has seen nothing.
    pub fn new(model: &Arc<Model>) -> Result<Self, SessionError> {
        let states = |parts: &[model::Part]| parts.iter().map(|part| part.shard.new_state()).collect();
        Ok(Self {
            layers: states(&model.layers),
            heads: states(&model.heads),
            slots: model
                .programs
                .iter()
                .map(|program| Slots::new(model, program))
                .collect::<Result<_, _>>()?,
            rows: vec![f16::ZERO; model.widest() * model.hidden()],
            logits: vec![f16::ZERO; model.vocab()],
            position: 0,
            pass: Pass::default(),
            broken: false,
            model: Arc::clone(model),
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Tokens committed, and so the position of the next one.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Tokens that still fit.
    pub fn room(&self) -> usize {
        self.model.context().saturating_sub(self.position)
    }

    /// Goes back to `position`, as if what was committed behind it had not been. A position not reached yet changes nothing.
    pub fn rewind(&mut self, position: usize) {
        self.position = self.position.min(position);
        self.pass = Pass::default();
    }

    /// Runs `tokens` (1 to [`Model::widest`]) at the positions behind those committed, and commits none of them.
    pub fn pass(&mut self, tokens: &[TokenId]) -> Result<(), SessionError> {
        let (model, start) = (Arc::clone(&self.model), self.position);
        let widest = model.widest();
        let holds = |program: &model::Program| !tokens.is_empty() && program.width >= tokens.len();
        let Some(index) = model.programs.iter().position(holds) else {
            return Err(SessionError::Tokens { given: tokens.len(), widest });
        };
        if self.broken {
            return Err(SessionError::Broken);
        }
        if tokens.len() > self.room() {
            let context = model.context();
            return Err(SessionError::ContextFull { position: start, tokens: tokens.len(), context });
        }
        let width = model.hidden();
        let rows = self.rows.chunks_exact_mut(width).zip(tokens);
        for (index, (row, &token)) in rows.enumerate() {
            if !model.embedding.read(token, row) {
                return Err(SessionError::Token { index, token, vocab: model.vocab() });
            }
        }
        self.pass = Pass::default();
        let (Some(program), Some(slots)) = (model.programs.get(index), self.slots.get_mut(index)) else {
            return Err(SessionError::Tokens { given: tokens.len(), widest });
        };
        let rows = self.rows.chunks_exact(width).take(tokens.len());
        self.broken = true;
        slots.run_layers(&model, program, &mut self.layers, start, rows)?;
        self.broken = false;
        self.pass = Pass { program: index, tokens: tokens.len(), heads: None };
        Ok(())
    }

    /// The whole vocabulary's logits behind token `slot` of the latest pass. The heads run at most once a pass: for that token
    /// if it is the pass's last, else for all its tokens.
    pub fn logits(&mut self, slot: usize) -> Result<&[f16], SessionError> {
        let (index, first) = self.heads_of(slot)?;
        if let Some(slots) = self.slots.get(index) {
            slots.gather(slot - first, &mut self.logits);
        }
        Ok(&self.logits)
    }

    /// [`argmax`](crate::decode::argmax) of what [`Session::logits`] gives, without moving a logit: the likeliest token behind token
    /// `slot` of the latest pass. None if every logit is NaN.
    pub fn likeliest(&mut self, slot: usize) -> Result<Option<TokenId>, SessionError> {
        let (index, first) = self.heads_of(slot)?;
        Ok(self.slots.get_mut(index).and_then(|slots| slots.argmax(slot - first)))
    }

    /// Where the heads' outputs of token `slot` are; see [`Pass::heads`].
    fn heads_of(&mut self, slot: usize) -> Result<(usize, usize), SessionError> {
        let tokens = self.pass.tokens;
        if slot >= tokens {
            return Err(SessionError::NotInPass { asked: format!("token {slot}'s logits"), tokens });
        }
        match self.pass.heads {
            Some((index, first)) if first <= slot => Ok((index, first)),
            _ => self.run_heads(if slot + 1 == tokens { slot } else { 0 }),
        }
    }

    /// Commits the first `count` tokens of the latest pass; the others are as if they had never been. Can be done once a pass.
    pub fn commit(&mut self, count: usize) -> Result<(), SessionError> {
        let tokens = self.pass.tokens;
        if count > tokens {
            return Err(SessionError::NotInPass { asked: format!("committing {count} tokens"), tokens });
        }
        self.position += count;
        self.pass = Pass::default();
        Ok(())
    }

    /// Commits `tokens`, a prompt or part of one, in passes through the widest program, and gives the logits behind its last
    /// token. The heads run for that one only. On error nothing is committed.
    pub fn prefill(&mut self, tokens: &[TokenId]) -> Result<&[f16], SessionError> {
        let last = tokens.chunks(self.model.widest()).count().saturating_sub(1);
        self.feed(tokens, |session, number, slot, slots| {
            if number == last && slot + 1 == slots {
                session.logits(slot)?;
            }
            Ok(())
        })?;
        Ok(&self.logits)
    }

    /// Teacher forcing: commits `tokens` in passes through the widest program and hands out, for each, its position and the
    /// whole vocabulary's logits behind it. The slice is the session's own, and the next token's overwrite it.
    pub fn force(
        &mut self,
        tokens: &[TokenId],
        mut on_logits: impl FnMut(usize, &[f16]),
    ) -> Result<(), SessionError> {
        self.feed(tokens, |session, _, slot, _| {
            let position = session.position + slot;
            on_logits(position, session.logits(slot)?);
            Ok(())
        })
    }

    /// Commits `tokens` in the widest passes; in each, calls `look` with the pass's number, a slot, and the number of slots used.
    fn feed(
        &mut self,
        tokens: &[TokenId],
        mut look: impl FnMut(&mut Self, usize, usize, usize) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let start = self.position;
        if tokens.is_empty() {
            return Err(SessionError::EmptyPrompt);
        }
        if tokens.len() > self.room() {
            let context = self.model.context();
            return Err(SessionError::ContextFull { position: start, tokens: tokens.len(), context });
        }
        let vocab = self.model.vocab();
        if let Some((index, &token)) = tokens.iter().enumerate().find(|&(_, &token)| token as usize >= vocab)
        {
            return Err(SessionError::Token { index, token, vocab });
        }
        for (number, chunk) in tokens.chunks(self.model.widest()).enumerate() {
            let looked = self.pass(chunk).and_then(|()| {
                (0..chunk.len()).try_for_each(|slot| look(self, number, slot, chunk.len()))?;
                self.commit(chunk.len())
            });
            if let Err(error) = looked {
                self.rewind(start);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Runs the heads on the latest pass's tokens from slot `first` on, through the narrowest program that holds them.
    fn run_heads(&mut self, first: usize) -> Result<(usize, usize), SessionError> {
        let (model, Pass { program, tokens, .. }) = (Arc::clone(&self.model), self.pass);
        if self.broken {
            return Err(SessionError::Broken);
        }
        let width = model.hidden();
        if let Some(slots) = self.slots.get(program) {
            let rows = self.rows.chunks_exact_mut(width);
            (first..tokens).zip(rows).for_each(|(slot, row)| slots.hidden(slot, row));
        }
        let rows = self.rows.chunks_exact(width).take(tokens - first);
        let mut programs = model.programs.iter().zip(&mut self.slots).enumerate();
        let holds = programs.find(|(_, (program, _))| program.width >= tokens - first);
        let Some((index, (program, slots))) = holds else {
            return Err(SessionError::Tokens { given: tokens, widest: model.widest() });
        };
        self.broken = true;
        slots.run_heads(&model, program, &mut self.heads, rows)?;
        self.broken = false;
        self.pass.heads = Some((index, first));
        Ok((index, first))
    }
}
