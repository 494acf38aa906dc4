//! Attention of a few queries over a long cache, visiting only positions that can matter.
//!
//! As written: scores `q·kᵀ` rounded to fp16, optionally scaled and rounded, plus the mask and rounded, softmax along
//! the context, rounded, times the values. A hidden position's score lies so far below another's that e^(score − max)
//! is exactly +0; its weight is then exactly +0, and adding +0 times a finite value changes no bit of a sum in lane
//! order. So it may be left out — where that is proven, from the masks, the size of the query and the largest key
//! elements. Where it cannot be proven, the position is visited.
//!
//! Positions are visited in aligned blocks of sixteen, so that the place in a block is the lane.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod block;
mod mask;
#[cfg(target_arch = "x86_64")]
mod narrow;

use half::f16;

pub use mask::Visibility;

use super::Isa;
use crate::portable::arith::elementary::EXP_LOWEST;
use crate::portable::arith::half::round;
use crate::portable::arith::lanes::LANES;

/// Positions of a block: one for each lane of a sum.
const BLOCK: usize = LANES;

/// Above one by more than all roundings of a dot product can add up to, for widths up to [`MAX_WIDTH`].
const SLACK: f64 = 1.001;

/// The widest head this kernel takes: sums of at most 256 terms a lane, error below 260 · 2⁻²⁴.
pub const MAX_WIDTH: usize = 4096;

/// One KV head's part of a cache.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// `[context, width]`.
    pub elements: &'a [f16],
    /// The largest magnitude in each row, as bits.
    pub largest: &'a [u16],
}

/// The attention of the query heads that share one KV head.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `[heads, slots, width]`.
    pub queries: &'a [f16],
    /// Keys.
    pub keys: Rows<'a>,
    /// Values.
    pub values: Rows<'a>,
    /// `[slots, context]`.
    pub mask: &'a [f16],
    /// What the mask says of blocks.
    pub visibility: &'a Visibility,
    /// What scores are multiplied with before the mask is added: positive and finite.
    pub scale: Option<f16>,
    /// Elements of a key and of a value.
    pub width: usize,
}

/// Working memory of one thread's head.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    /// Blocks to visit, ascending.
    blocks: Vec<u32>,
    /// Queries, widened and padded to whole lanes.
    queries: Vec<f32>,
    /// Keys or values of one block, likewise.
    rows: Vec<f32>,
    /// Scores, then weights: per query, per visited block, sixteen.
    scores: Vec<f32>,
    /// The largest score of each query; NaN if one is.
    best: Vec<f32>,
    /// Sums in the making: per query, per lane, the width.
    sums: Vec<f32>,
}

impl Scratch {
    /// Room for `queries` columns of `width` over `context` positions.
    pub fn with_capacity(queries: usize, width: usize, context: usize) -> Self {
        let padded = width.next_multiple_of(LANES);
        let blocks = context.div_ceil(BLOCK);
        Self {
            blocks: Vec::with_capacity(blocks),
            queries: Vec::with_capacity(queries * padded),
            rows: Vec::with_capacity(BLOCK * padded),
            scores: Vec::with_capacity(queries * blocks * BLOCK),
            best: Vec::with_capacity(queries),
            sums: Vec::with_capacity(queries * LANES * padded),
        }
    }
}

/// Writes the attention of one KV head's queries to `out` `[heads, slots, width]`.
pub fn attend(isa: Isa, head: Head<'_>, out: &mut [f16], scratch: &mut Scratch) {
    let total = head.context().div_ceil(BLOCK);
    block::load_queries(isa, &head, scratch);
    scratch.blocks.clear();
    scratch.blocks.extend_from_slice(head.visibility.near());
    if scratch.blocks.len() < total {
        block::scores(isa, &head, scratch);
        if !head.far_blocks_vanish(isa, scratch) {
            head.add_blocks(isa, scratch);
            block::scores(isa, &head, scratch);
        }
    } else {
        block::scores(isa, &head, scratch);
    }
    block::softmax(isa, scratch);
    block::combine(isa, &head, scratch, out);
}

/// The scores `q·kᵀ` that [`attend`] begins with, before scale and mask: how many positions there are up to the last that a slot
/// sees, and `[heads, slots, positions]`, zero where a slot does not see one.
pub fn visible_scores(isa: Isa, head: Head<'_>) -> (usize, Vec<f16>) {
    let context = head.context();
    let last = head.visibility.near().last().map_or(0, |&block| block as usize + 1);
    let positions = (last * BLOCK).min(context);
    (positions, block::visible_scores(isa, &head, positions))
}

impl Head<'_> {
    fn context(&self) -> usize {
        self.keys.largest.len()
    }

    /// Slots of a pass.
    pub fn slots(&self) -> usize {
        self.mask.len() / self.context().max(1)
    }

    /// Per query, its slot, the sum of its magnitudes, and the largest score among the visited blocks.
    fn queries(&self, isa: Isa, scratch: &Scratch) -> impl Iterator<Item = (usize, f64, f32)> {
        let (slots, padded) = (self.slots(), block::padded(isa, self.width));
        let queries = scratch.queries.chunks_exact(padded).zip(&scratch.best).enumerate();
        queries.map(move |(index, (query, &best))| {
            let mut size = 0.0;
            block::size_of(isa, query, &mut size);
            (index % slots, size, best)
        })
    }

    /// Whether no query can give a position outside the near blocks any weight.
    fn far_blocks_vanish(&self, isa: Isa, scratch: &Scratch) -> bool {
        let largest = |rows: &[u16]| Self::largest_far(isa, rows, &scratch.blocks);
        let (key, value) = (largest(self.keys.largest), largest(self.values.largest));
        value < 0x7c00
            && self
                .queries(isa, scratch)
                .all(|(slot, size, best)| self.vanishes(size, key, self.visibility.far(slot), best))
    }

    /// The largest that `rows` has for positions outside `near`.
    fn largest_far(isa: Isa, rows: &[u16], near: &[u32]) -> u16 {
        let (mut largest, mut begin) = (0, 0);
        for &block in near {
            let start = block as usize * BLOCK;
            block::largest_of(isa, &rows[begin..start], &mut largest);
            begin = (start + BLOCK).min(rows.len());
        }
        block::largest_of(isa, &rows[begin..], &mut largest);
        largest
    }

    /// Whether a score beside `best` gets a weight of exactly +0: one of a query whose magnitudes add up to `size`, at a position
    /// whose mask is at most `mask` and whose key elements are at most `key` in magnitude (as bits).
    fn vanishes(&self, size: f64, key: u16, mask: f32, best: f32) -> bool {
        let product = round((size * f16::from_bits(key).to_f64() * SLACK) as f32);
        // Rounding is monotone: what is true of the bound is true of every score below it.
        let scaled = self.scale.map_or(product, |scale| round(product.to_f32() * scale.to_f32()));
        let score = round(scaled.to_f32() + mask);
        scaled.is_finite() && best.is_finite() && score.to_f32() - best < EXP_LOWEST
    }

    /// Adds every block that cannot be proven to vanish.
    fn add_blocks(&self, isa: Isa, scratch: &mut Scratch) {
        let context = self.context();
        let queries: Vec<_> = self.queries(isa, scratch).collect();
        let near = self.visibility.near();
        let vanishes = |block: u32| {
            let range = block as usize * BLOCK..(block as usize * BLOCK + BLOCK).min(context);
            let largest = |rows: &[u16]| rows[range.clone()].iter().copied().max().unwrap_or(0);
            let (key, value) = (largest(self.keys.largest), largest(self.values.largest));
            value < 0x7c00
                && queries.iter().all(|&(slot, size, best)| {
                    let mask = &self.mask[slot * context..][range.clone()];
                    let mask = mask.iter().fold(f32::NEG_INFINITY, |a, b| a.max(b.to_f32()));
                    self.vanishes(size, key, mask, best)
                })
        };
        scratch.blocks.clear();
        let all = 0..context.div_ceil(BLOCK) as u32;
        scratch.blocks.extend(all.filter(|block| near.binary_search(block).is_ok() || !vanishes(*block)));
    }
}

#[cfg(test)]
mod tests;
