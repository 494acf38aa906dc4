//! The arithmetic of attention over the visited blocks.

use half::f16;

use super::{BLOCK, Head, Rows, Scratch};
use crate::portable::arith::elementary::exp;
use crate::portable::arith::half::round;
use crate::portable::arith::lanes::{LANES, fold};
use crate::portable::kernel::Isa;
use crate::portable::kernel::convert::{narrow, widen};
use crate::portable::kernel::dots::{Columns, dots};
use crate::portable::kernel::isa::for_each_isa;

/// The score of a position that is not there: it takes no part in the maximum, and its power is +0.
const ABSENT: f32 = f32::NEG_INFINITY;

/// Widens the queries.
pub(super) fn load_queries(isa: Isa, head: &Head<'_>, scratch: &mut Scratch) {
    widen_rows(isa, head.queries, head.width, &mut scratch.queries);
}

/// Widens rows of `width` and pads each with zeros to whole lanes.
fn widen_rows(isa: Isa, rows: &[f16], width: usize, out: &mut Vec<f32>) {
    let padded = width.next_multiple_of(LANES);
    out.clear();
    out.resize(rows.len() / width * padded, 0.0);
    for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(padded)) {
        widen(isa, row, &mut out[..width]);
    }
}

fn rows_of(rows: Rows<'_>, block: u32, width: usize) -> &[f16] {
    let start = block as usize * BLOCK * width;
    &rows.elements[start..(start + BLOCK * width).min(rows.elements.len())]
}

/// Scores of every query with every position of the visited blocks.
pub(super) fn scores(isa: Isa, head: &Head<'_>, scratch: &mut Scratch) {
    let Scratch { blocks, queries, scores, .. } = scratch;
    let columns = Columns::new(queries, head.width.next_multiple_of(LANES));
    let length = blocks.len() * BLOCK;
    scores.clear();
    scores.resize(columns.count() * length, ABSENT);
    let context = head.context();
    for (index, &block) in blocks.iter().enumerate() {
        let keys = rows_of(head.keys, block, head.width).chunks_exact(head.width);
        let present = keys.len();
        for (position, key) in keys.enumerate() {
            let at = index * BLOCK + position;
            dots(isa, key, columns, |query, sum| scores[query * length + at] = sum);
        }
        for (query, scores) in scores.chunks_exact_mut(length).enumerate() {
            let mask = &head.mask[query % head.slots() * context..][block as usize * BLOCK..][..present];
            let scores = &mut scores[index * BLOCK..][..present];
            to_half(isa, scores);
            if let Some(scale) = head.scale {
                for score in scores.iter_mut() {
                    *score *= scale.to_f32();
                }
                to_half(isa, scores);
            }
            scores.iter_mut().zip(mask).for_each(|(score, mask)| *score += mask.to_f32());
            to_half(isa, scores);
        }
    }
}

/// Scores of every query with the first `positions` positions, before scale and mask; zero where the mask hides them.
pub(super) fn visible_scores(isa: Isa, head: &Head<'_>, positions: usize) -> Vec<f16> {
    let mut queries = Vec::new();
    widen_rows(isa, head.queries, head.width, &mut queries);
    let columns = Columns::new(&queries, head.width.next_multiple_of(LANES));
    let mut scores = vec![f16::ZERO; columns.count() * positions];
    let keys = head.keys.elements.chunks_exact(head.width).take(positions);
    for (position, key) in keys.enumerate() {
        dots(isa, key, columns, |query, sum| {
            let slot = query % head.slots();
            if head.visibility.shows(slot, head.mask[slot * head.context() + position]) {
                scores[query * positions + position] = round(sum);
            }
        });
    }
    scores
}

/// Rounds to fp16 and widens again.
fn to_half(isa: Isa, values: &mut [f32]) {
    let mut halves = [f16::ZERO; BLOCK];
    let halves = &mut halves[..values.len()];
    narrow(isa, values, halves);
    widen(isa, halves, values);
}

/// Softmax of each query's scores over the visited positions, rounded to fp16.
pub(super) fn softmax(isa: Isa, head: &Head<'_>, scratch: &mut Scratch) {
    let count = head.queries.len() / head.width;
    let length = scratch.blocks.len() * BLOCK;
    for query in 0..count {
        let largest = Head::best(scratch, query);
        let scores = &mut scratch.scores[query * length..(query + 1) * length];
        weights(isa, largest, scores);
        scores.chunks_exact_mut(BLOCK).for_each(|values| to_half(isa, values));
    }
}

/// Sums of the values by weight.
pub(super) fn combine(isa: Isa, head: &Head<'_>, scratch: &mut Scratch, out: &mut [f16]) {
    let Scratch { blocks, rows, scores, sums, .. } = scratch;
    let padded = head.width.next_multiple_of(LANES);
    let count = head.queries.len() / head.width;
    sums.clear();
    sums.resize(count * LANES * padded, 0.0);
    for (index, &block) in blocks.iter().enumerate() {
        widen_rows(isa, rows_of(head.values, block, head.width), head.width, rows);
        let range = block as usize * BLOCK..(block as usize * BLOCK + BLOCK).min(head.context());
        let finite = head.values.largest[range].iter().all(|&largest| largest < 0x7c00);
        for (query, sums) in sums.chunks_exact_mut(LANES * padded).enumerate() {
            let weights = &scores[(query * blocks.len() + index) * BLOCK..][..BLOCK];
            add_weighted(isa, weights, rows, padded, finite, sums);
        }
    }
    for (sums, out) in sums.chunks_exact_mut(LANES * padded).zip(out.chunks_exact_mut(head.width)) {
        fold_rows(isa, padded, sums);
        narrow(isa, &sums[..head.width], out);
    }
}

for_each_isa! {
    /// From scores to weights; a whole number of blocks.
    fn weights(largest: f32, scores: &mut [f32]) {
        let (blocks, _) = scores.as_chunks_mut::<BLOCK>();
        let mut lanes = [0f32; LANES];
        for block in blocks.iter_mut() {
            for lane in 0..LANES {
                block[lane] = exp(block[lane] - largest);
                lanes[lane] += block[lane];
            }
        }
        let sum = fold(lanes);
        for block in blocks {
            for weight in block {
                *weight /= sum;
            }
        }
    }
}

for_each_isa! {
    /// Adds each row of a block, weighted, to its lane's sums. A weight of zero is passed over if that is the same.
    fn add_weighted(weights: &[f32], rows: &[f32], width: usize, finite: bool, sums: &mut [f32]) {
        let lanes = sums.chunks_exact_mut(width).zip(rows.chunks_exact(width));
        for (&weight, (sums, row)) in weights.iter().zip(lanes) {
            if weight == 0.0 && finite {
                continue;
            }
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
    }
}

for_each_isa! {
    /// Folds sixteen rows of `width` sums into the first.
    fn fold_rows(width: usize, sums: &mut [f32]) {
        for half in [8, 4, 2, 1] {
            let (low, high) = sums[..2 * half * width].split_at_mut(half * width);
            low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        }
    }
}
