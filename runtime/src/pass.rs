//! Position and mask bookkeeping of one pass, in one place.
//!
//! A shard has `T` slots. A pass carries 1 to `T` consecutive tokens in the first slots; the token in slot `i` stands at position
//! `start + i` and sees positions `0..=start + i`. Slots left over repeat the last token, position and mask included, and write
//! nothing: a zero vector there could turn into NaN inside a norm, and `0 · NaN` in the masked cache write would poison the cache.
//!
//! Nothing is ever erased: committing `n` tokens means that the next pass starts `n` further on. What rejected drafts left in the
//! cache lies behind the mask until it is overwritten, and the parity gate proves that it changes nothing.
//!
//! Callers speak of hidden states, positions and slots. Tensor names, shapes and mask values are this module's business: they
//! belong to the authoring style of the graph. The one style so far, `stateful`, has these inputs, all fp16:
//!
//! | input | shape | holds |
//! |---|---|---|
//! | `hidden` | `[1, d, T, 1]` or `[1, d, 1, T]` | hidden states, the same bytes in both forms |
//! | `rope_cos`, `rope_sin` | `[T, rope_dim / 2]` | rotary rows of the slots' positions |
//! | `attn_mask` | `[1, 1, T, S]` | 0 where a slot may look, −40000 elsewhere |
//! | `kv_write_mask` | `[1, 1, S, T]` | 1 where a cache row takes a slot's key and value, 0 elsewhere |
//!
//! and its states are `[1, heads, S, head_dim]`. A language-model head is a shard without states and with one input, `hidden`.

mod cache;
mod error;
mod layout;
mod masks;

use half::f16;

pub use error::PassError;
pub use layout::PassLayout;

use crate::device::Signature;
use crate::rope::Rope;
use crate::tensor::Tensor;
use layout::Attention;
use masks::Masks;

/// The inputs of a shard, rewritten for each pass and allocated once.
///
/// Shards with equal inputs can take turns with one `BlockPass`: [`BlockPass::feed`] hands one shard's output to the next.
#[derive(Debug)]
pub struct BlockPass {
    layout: PassLayout,
    inputs: Vec<Tensor>,
    positions: Option<Positions>,
}

/// What an attending shard needs besides hidden states.
#[derive(Debug)]
struct Positions {
    rope: Rope,
    masks: Masks,
}

impl BlockPass {
    /// Buffers for shards with this `signature`. `rope` must be there if the shard attends, and is not looked at otherwise.
    pub fn new(signature: &Signature, rope: Option<&Rope>) -> Result<Self, PassError> {
        let layout = PassLayout::from_signature(signature)?;
        let mut inputs = signature.new_inputs();
        let positions = match (layout.attention(), rope) {
            (None, _) => None,
            (Some(_), None) => return Err(PassError::RopeMissing),
            (Some(attention), Some(rope)) if rope.half_dim() != attention.half_dim => {
                return Err(PassError::RopeWidth {
                    model: 2 * rope.half_dim(),
                    shard: 2 * attention.half_dim,
                });
            }
            (Some(attention), Some(rope)) => {
                let attn_mask = data_mut(&mut inputs, attention.mask);
                let masks = Masks::new(attn_mask, layout.block(), attention.context);
                Some(Positions { rope: rope.clone(), masks })
            }
        };
        Ok(Self { layout, inputs, positions })
    }

    /// What the shard's interface says.
    pub fn layout(&self) -> &PassLayout {
        &self.layout
    }

    /// Fills every input for a pass over `rows` (1 to `T` hidden states of `d` elements), the first one at position `start`.
    /// A head has no positions and ignores `start`. On error the inputs are as they were.
    pub fn prepare(&mut self, start: usize, rows: &[&[f16]]) -> Result<(), PassError> {
        self.prepare_rows(start, rows.iter().copied())
    }

    /// [`BlockPass::prepare`] for rows that stand in no slice of slices.
    pub fn prepare_rows<'r>(
        &mut self,
        start: usize,
        rows: impl ExactSizeIterator<Item = &'r [f16]> + Clone,
    ) -> Result<(), PassError> {
        self.check(start, rows.clone())?;
        let (block, used) = (self.layout.block(), rows.len());
        let hidden = data_mut(&mut self.inputs, self.layout.hidden());
        // The last row fills the slots that are left over.
        let last = rows.clone().last().into_iter().cycle();
        for (slot, row) in rows.chain(last).take(block).enumerate() {
            for (into, &value) in hidden.iter_mut().skip(slot).step_by(block).zip(row) {
                *into = value;
            }
        }
        if let (Some(positions), Some(attention)) = (&mut self.positions, self.layout.attention()) {
            positions.fill(attention, &mut self.inputs, start, used);
        }
        Ok(())
    }

    /// Makes `output`, the hidden states that a shard gave in this pass, the hidden input of the next shard, positions and masks
    /// kept. The tensors are exchanged, not copied.
    pub fn feed(&mut self, output: &mut Tensor) -> Result<(), PassError> {
        let index = self.layout.hidden();
        let Some(hidden) = self.inputs.get_mut(index).filter(|hidden| hidden.shape() == output.shape())
        else {
            return Err(PassError::Feed {
                expected: self.inputs.get(index).map(|hidden| hidden.shape().to_vec()).unwrap_or_default(),
                found: output.shape().to_vec(),
            });
        };
        std::mem::swap(hidden, output);
        Ok(())
    }

    /// The inputs, in the signature's order, for [`crate::device::Shard::predict`].
    pub fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn check<'r>(
        &self,
        start: usize,
        rows: impl ExactSizeIterator<Item = &'r [f16]>,
    ) -> Result<(), PassError> {
        let (block, width, tokens) = (self.layout.block(), self.layout.width(), rows.len());
        if tokens == 0 || tokens > block {
            return Err(PassError::Tokens { given: tokens, block });
        }
        if let Some((row, found)) = rows.map(<[f16]>::len).enumerate().find(|&(_, len)| len != width) {
            return Err(PassError::RowWidth { row, found, expected: width });
        }
        match self.layout.context() {
            Some(context) if start.checked_add(tokens).is_none_or(|end| end > context) => {
                Err(PassError::ContextFull { start, tokens, context })
            }
            _ => Ok(()),
        }
    }
}

impl Positions {
    fn fill(&mut self, attention: &Attention, inputs: &mut [Tensor], start: usize, used: usize) {
        let Self { rope, masks } = self;
        let position = |slot: usize| start + slot.min(used - 1);
        for (index, sine) in [(attention.cos, false), (attention.sin, true)] {
            for (slot, row) in data_mut(inputs, index).chunks_exact_mut(attention.half_dim).enumerate() {
                for (into, (cos, sin)) in row.iter_mut().zip(rope.row(position(slot))) {
                    *into = if sine { sin } else { cos };
                }
            }
        }
        masks.show(data_mut(inputs, attention.mask), |slot| position(slot) + 1);
        masks.write(data_mut(inputs, attention.write), start, used);
    }
}

/// An input's elements; the indices come from the layout that was made from the same signature.
fn data_mut(inputs: &mut [Tensor], index: usize) -> &mut [f16] {
    inputs.get_mut(index).map(Tensor::data_mut).unwrap_or_default()
}

#[cfg(test)]
mod tests;
