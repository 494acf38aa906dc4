//! What the attention mask says about blocks of positions, found once for all heads that share the mask.

use half::f16;

use super::BLOCK;
use crate::portable::arith::half::{NAN_ORDER, at_order, order};
use crate::portable::kernel::Isa;
use crate::portable::kernel::isa::for_each_isa;

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
    /// Per slot and block, the largest by its place in the order of numbers, or [`UNCLEAR`].
    largest: Vec<i16>,
}

/// In place of a largest value where one is NaN. No number has this place.
const UNCLEAR: i16 = i16::MAX;

impl Visibility {
    /// Room for a mask `[slots, context]`.
    pub fn with_capacity(slots: usize, context: usize) -> Self {
        Self {
            context,
            near: Vec::with_capacity(context.div_ceil(BLOCK)),
            far: Vec::with_capacity(slots),
            top: Vec::with_capacity(slots),
            largest: Vec::with_capacity(slots * context.div_ceil(BLOCK)),
        }
    }

    /// Looks through `mask` `[slots, context]`.
    pub fn scan(&mut self, isa: Isa, mask: &[f16]) {
        self.near.clear();
        self.top.clear();
        self.far.clear();
        let (context, blocks) = (self.context.max(1), self.context.div_ceil(BLOCK));
        let slots = mask.len() / context;
        self.largest.clear();
        self.largest.resize(slots * blocks, NAN_ORDER);
        if blocks == 0 {
            return;
        }
        for (mask, largest) in mask.chunks_exact(context).zip(self.largest.chunks_exact_mut(blocks)) {
            // NaN is passed over; a position whose mask is NaN counts as near below.
            let mut top = NAN_ORDER;
            scan_slot(isa, mask, largest, &mut top);
            self.top.push(number(top));
        }
        self.far.resize(slots, f32::NEG_INFINITY);
        for block in 0..blocks {
            let largest = || self.largest.iter().skip(block).step_by(blocks).copied();
            let hidden = |(largest, top)| largest != UNCLEAR && is_hidden(number(largest), top);
            if largest().zip(self.top.iter().copied()).all(hidden) {
                for (largest, far) in largest().zip(&mut self.far) {
                    *far = far.max(number(largest));
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

/// The number at a place; −∞ if there was none.
fn number(place: i16) -> f32 {
    if place == NAN_ORDER { f32::NEG_INFINITY } else { at_order(place).to_f32() }
}

for_each_isa! {
    /// The largest of each block of `mask`, and of all of it.
    fn scan_slot(mask: &[f16], blocks: &mut [i16], top: &mut i16) {
        for (mask, largest) in mask.chunks(BLOCK).zip(blocks) {
            let place = mask.iter().fold(NAN_ORDER, |largest, &value| largest.max(order(value)));
            let unclear = mask.iter().fold(false, |any, &value| any | (order(value) == NAN_ORDER));
            *top = (*top).max(place);
            *largest = if unclear { UNCLEAR } else { place };
        }
    }
}
