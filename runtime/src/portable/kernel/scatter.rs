//! The masked scatter of new keys and values into a cache: `cache · keep + write × new`, row by row in place.
//!
//! Read as written it rewrites the whole cache. But a row whose `keep` is one and whose part of `write` is zero stays as
//! it is, bit for bit, if `new` is finite and the cache holds nothing that arithmetic itself would change (see
//! [`Cache::is_settled`]). All other rows are computed by the formula.

use half::f16;

use crate::portable::arith::half::{is_finite, magnitude_bits, round};
use crate::portable::arith::lanes::LaneSum;
use crate::portable::cache::Cache;

const ONE: u16 = 0x3c00;

/// What a pass does to one row of every head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The row becomes this slot's: its keep is zero, and its part of the mask one there and zero elsewhere.
    Slot(usize),
    /// Whatever the formula gives.
    Formula,
}

/// The rows that a pass changes, found once for all layers that share the masks.
#[derive(Debug, Clone, Default)]
pub struct Changes(Vec<(usize, Change)>);

impl Changes {
    /// Room for all rows of a context.
    pub fn with_capacity(context: usize) -> Self {
        Self(Vec::with_capacity(context))
    }

    /// Looks through `keep` `[context]` and `write` `[context, slots]`.
    pub fn scan(&mut self, keep: &[f16], write: &[f16]) {
        self.0.clear();
        let slots = write.len().checked_div(keep.len()).unwrap_or(0);
        for (row, keep) in keep.iter().enumerate() {
            let write = &write[row * slots..(row + 1) * slots];
            let mut used = write.iter().enumerate().filter(|(_, value)| magnitude_bits(**value) != 0);
            match (keep.to_bits(), used.next(), used.next()) {
                (ONE, None, _) => {}
                (0, Some((slot, value)), None) if value.to_bits() == ONE => {
                    self.0.push((row, Change::Slot(slot)));
                }
                _ => self.0.push((row, Change::Formula)),
            }
        }
    }
}

/// The tensors of one scatter.
#[derive(Debug, Clone, Copy)]
pub struct Scatter<'a> {
    /// `[context]`.
    pub keep: &'a [f16],
    /// `[context, slots]`.
    pub write: &'a [f16],
    /// `[heads, slots, width]`.
    pub new: &'a [f16],
}

/// Updates `cache` `[heads, context, width]`.
pub(in crate::portable) fn scatter(changes: &Changes, tensors: Scatter<'_>, cache: &mut Cache) {
    let Scatter { keep, write, new } = tensors;
    let (context, width) = (keep.len(), cache.row_length());
    let slots = write.len().checked_div(context).unwrap_or(0);
    let heads = cache.largest().len().checked_div(context).unwrap_or(0);
    // A zero of the mask times an infinity or a NaN is NaN: then every row changes.
    let finite = new.iter().fold(true, |finite, &value| finite & is_finite(value));
    let everything = !finite || !cache.is_settled();
    if everything {
        cache.begin_rewrite();
    }
    for head in 0..heads {
        let new = &new[head * slots * width..(head + 1) * slots * width];
        let formula = |cache: &mut Cache, row: usize| {
            let (keep, write) = (keep[row], &write[row * slots..(row + 1) * slots]);
            cache.update_row(head * context + row, |elements| combine(elements, keep, write, new));
        };
        if everything {
            (0..context).for_each(|row| formula(cache, row));
            continue;
        }
        for &(row, change) in &changes.0 {
            match change {
                Change::Slot(slot) if cache.largest()[head * context + row] < 0x7c00 => {
                    // What the formula comes to: 0 · old + 1 · new, where −0 becomes +0.
                    cache.place_row(head * context + row, &new[slot * width..(slot + 1) * width]);
                }
                _ => formula(cache, row),
            }
        }
    }
}

/// One row by the formula: two roundings for the products, one for their sum.
fn combine(elements: &mut [f16], keep: f16, write: &[f16], new: &[f16]) {
    let width = elements.len();
    for (index, element) in elements.iter_mut().enumerate() {
        let kept = round(element.to_f32() * keep.to_f32());
        let mut sum = LaneSum::default();
        for (slot, weight) in write.iter().enumerate() {
            sum.add(slot, weight.to_f32() * new[slot * width + index].to_f32());
        }
        let placed = round(sum.total());
        *element = round(kept.to_f32() + placed.to_f32());
    }
}
