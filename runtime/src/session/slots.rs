//! The buffers of a pass of one width, and the way of hidden states through the shards.

use half::f16;

use super::error::SessionError;
use super::model::{Model, Part, Program};
use crate::device::State;
use crate::pass::{BlockPass, PassError};
use crate::portable::Isa;
use crate::portable::kernel::argmax::{Largest, argmax};
use crate::tensor::Tensor;
use crate::token::TokenId;

/// The inputs and outputs of all functions of one width.
pub(super) struct Slots {
    width: usize,
    layers: BlockPass,
    /// What the latest shard of layers gave, `[1, d, T, 1]`.
    hidden: Tensor,
    heads: BlockPass,
    /// What each head gave, `[1, rows, T, 1]`.
    logits: Vec<Tensor>,
    /// The largest logit in each slot, once somebody has asked for one.
    largest: Vec<Largest>,
}

impl Slots {
    pub(super) fn new(model: &Model, program: &Program) -> Result<Self, SessionError> {
        let (layers, hidden) = buffers(model, &model.layers, &program.layers)?;
        let (heads, logits) = buffers(model, &model.heads, &program.heads)?;
        let nothing = || SessionError::Parts("a shard gives nothing".to_owned());
        let hidden = hidden.into_iter().next().ok_or_else(nothing)?;
        let largest = Vec::with_capacity(program.width);
        Ok(Self { width: program.width, layers, hidden, heads, logits, largest })
    }

    /// Pushes `rows` (1 to T hidden states), the first at position `start`, through all layers.
    pub(super) fn run_layers<'r>(
        &mut self,
        model: &Model,
        program: &Program,
        states: &mut [Box<dyn State>],
        start: usize,
        rows: impl ExactSizeIterator<Item = &'r [f16]> + Clone,
    ) -> Result<(), SessionError> {
        let Some(first) = model.layers.first() else { return Ok(()) };
        self.layers.prepare_rows(start, rows).map_err(|source| pass_error(first, source))?;
        let shards = model.layers.iter().zip(&program.layers).zip(states);
        for (index, ((part, &function), state)) in shards.enumerate() {
            if index > 0 {
                self.layers.feed(&mut self.hidden).map_err(|source| pass_error(part, source))?;
            }
            predict(part, function, &self.layers, state.as_mut(), &mut self.hidden)?;
        }
        Ok(())
    }

    /// Runs every head on `rows` (1 to T hidden states).
    pub(super) fn run_heads<'r>(
        &mut self,
        model: &Model,
        program: &Program,
        states: &mut [Box<dyn State>],
        rows: impl ExactSizeIterator<Item = &'r [f16]> + Clone,
    ) -> Result<(), SessionError> {
        self.largest.clear();
        let Some(first) = model.heads.first() else { return Ok(()) };
        self.heads.prepare_rows(0, rows).map_err(|source| pass_error(first, source))?;
        let shards = model.heads.iter().zip(&program.heads).zip(states);
        for (((part, &function), state), logits) in shards.zip(&mut self.logits) {
            predict(part, function, &self.heads, state.as_mut(), logits)?;
        }
        Ok(())
    }

    /// Copies the hidden state of `slot` to `row` `[d]`.
    pub(super) fn hidden(&self, slot: usize, row: &mut [f16]) {
        let column = self.hidden.data().iter().skip(slot).step_by(self.width);
        row.iter_mut().zip(column).for_each(|(into, &value)| *into = value);
    }

    /// The token whose logit in `slot` is the largest; see [`crate::decode::argmax`].
    pub(super) fn argmax(&mut self, slot: usize) -> Option<TokenId> {
        if self.largest.is_empty() {
            self.largest.resize(self.width, Largest::NONE);
            let mut first = 0;
            for head in &self.logits {
                argmax(Isa::best(), head.data(), first, &mut self.largest);
                first += head.data().len() / self.width.max(1);
            }
        }
        let row = self.largest.get(slot)?.row()?;
        Some(row as TokenId)
    }

    /// Copies what the heads gave in `slot` to `logits` `[vocab]`.
    pub(super) fn gather(&self, slot: usize, logits: &mut [f16]) {
        let columns = self.logits.iter().flat_map(|head| head.data().iter().skip(slot).step_by(self.width));
        logits.iter_mut().zip(columns).for_each(|(into, &value)| *into = value);
    }
}

/// Inputs that `parts` take turns with, and one output for each. The parts' interfaces were compared when the model was opened.
fn buffers(
    model: &Model,
    parts: &[Part],
    functions: &[usize],
) -> Result<(BlockPass, Vec<Tensor>), SessionError> {
    let mut signatures =
        parts.iter().zip(functions).map(|(part, &function)| (part, part.signature(function)));
    let Some((part, first)) = signatures.clone().next() else {
        return Err(SessionError::Parts("it has no layers or no head".to_owned()));
    };
    let inputs = BlockPass::new(first, Some(&model.rope)).map_err(|source| pass_error(part, source))?;
    let outputs = signatures.by_ref().flat_map(|(_, signature)| signature.new_outputs()).collect();
    Ok((inputs, outputs))
}

fn predict(
    part: &Part,
    function: usize,
    inputs: &BlockPass,
    state: &mut dyn State,
    output: &mut Tensor,
) -> Result<(), SessionError> {
    part.shard
        .predict(function, inputs.inputs(), state, std::slice::from_mut(output))
        .map_err(|source| SessionError::Shard { path: part.path.clone(), source })
}

fn pass_error(part: &Part, source: PassError) -> SessionError {
    SessionError::Pass { path: part.path.clone(), source }
}
