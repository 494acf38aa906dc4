//! What the attention mask says about blocks of positions, found once for all heads that share the mask.

use half::f16;

use super::BLOCK;

/// How far below its slot's largest mask value a position counts as hidden. Any value is right: hidden positions are
/// left out only if that is proven to change nothing. This one is above the scores that heads produce and far below
/// what masks hide with.
const GAP: f32 = 1000.0;

/// Whether a mask value counts as hidden in a slot whose largest is `top`. One that is NaN does not.
fn is_hidden(value: f32, top: f32) -> bool {
    value <= top - GAP
}

/// The blocks of a context that some slot sees, and how visible the others are at most.
#[derive(Debug, Clone, Default)]
pub struct Visibility {
    context: usize,
    near: Vec<u32>,
    /// Per slot, the largest mask value outside the near blocks.
    far: Vec<f32>,
    /// The largest of each slot.
    top: Vec<f32>,
}

impl Visibility {
    /// Room for a mask `[slots, context]`.
    pub fn with_capacity(slots: usize, context: usize) -> Self {
        Self {
            context,
            near: Vec::with_capacity(context.div_ceil(BLOCK)),
            far: Vec::with_capacity(slots),
            top: Vec::with_capacity(slots),
        }
    }

    /// Looks through `mask` `[slots, context]`.
    pub fn scan(&mut self, mask: &[f16]) {
        self.near.clear();
        self.top.clear();
        self.far.clear();
        let context = self.context.max(1);
        // `f32::max` passes over NaN; a position whose mask is NaN counts as near below.
        let largest = |values: &[f16]| values.iter().fold(f32::NEG_INFINITY, |a, b| a.max(b.to_f32()));
        self.top.extend(mask.chunks_exact(context).map(largest));
        self.far.resize(self.top.len(), f32::NEG_INFINITY);
        for block in 0..self.context.div_ceil(BLOCK) {
            let range = block * BLOCK..((block + 1) * BLOCK).min(self.context);
            let hidden = mask
                .chunks_exact(context)
                .zip(&self.top)
                .all(|(mask, top)| mask[range.clone()].iter().all(|value| is_hidden(value.to_f32(), *top)));
            if hidden {
                for (mask, far) in mask.chunks_exact(context).zip(&mut self.far) {
                    *far = far.max(largest(&mask[range.clone()]));
                }
            } else {
                self.near.push(block as u32);
            }
        }
    }

    /// The blocks that have to be visited in any case, ascending.
    pub fn near(&self) -> &[u32] {
        &self.near
    }

    /// Whether `slot` sees a position where its mask has `value`.
    pub fn shows(&self, slot: usize, value: f16) -> bool {
        self.top.get(slot).is_none_or(|top| !is_hidden(value.to_f32(), *top))
    }

    /// The largest mask value of `slot` outside the near blocks.
    pub fn far(&self, slot: usize) -> f32 {
        self.far[slot]
    }
}
