//! The arithmetic of attention over the visited blocks.

use half::f16;

use super::{BLOCK, Head, Rows, Scratch};
#[cfg(target_arch = "x86_64")]
use super::{avx2, narrow};
use crate::portable::arith::elementary::exp;
use crate::portable::arith::half::round;
use crate::portable::arith::lanes::{LANES, fold};
use crate::portable::kernel::Isa;
use crate::portable::kernel::convert::{narrow, widen};
use crate::portable::kernel::dots::{Columns, dots};
#[cfg(target_arch = "x86_64")]
use crate::portable::kernel::isa::Level;
use crate::portable::kernel::isa::for_each_isa;

/// The score of a position that is not there: it takes no part in the maximum, and its power is +0.
pub(super) const ABSENT: f32 = f32::NEG_INFINITY;

/// Widens the queries.
pub(super) fn load_queries(isa: Isa, head: &Head<'_>, scratch: &mut Scratch) {
    widen_rows(isa, head.queries, (head.width, padded(isa, head.width)), &mut scratch.queries);
}

/// What rows of `width` are padded to: whole lanes, if they are not of whole registers for [`avx2`].
pub(super) fn padded(isa: Isa, width: usize) -> usize {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 if width.is_multiple_of(avx2::EIGHT) => width,
        _ => width.next_multiple_of(LANES),
    }
}

/// Widens rows of `width` and pads each with zeros.
fn widen_rows(isa: Isa, rows: &[f16], (width, padded): (usize, usize), out: &mut Vec<f32>) {
    out.clear();
    out.resize(rows.len() / width * padded, 0.0);
    for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(padded)) {
        widen(isa, row, &mut out[..width]);
    }
}

pub(super) fn rows_of(rows: Rows<'_>, block: u32, width: usize) -> &[f16] {
    let start = block as usize * BLOCK * width;
    &rows.elements[start..(start + BLOCK * width).min(rows.elements.len())]
}

/// Scores of every query with every position of the visited blocks, and the largest of each query.
pub(super) fn scores(isa: Isa, head: &Head<'_>, scratch: &mut Scratch) {
    let Scratch { blocks, queries, scores, best, .. } = scratch;
    let padded = padded(isa, head.width);
    let length = blocks.len() * BLOCK;
    scores.clear();
    scores.resize(queries.len() / padded * length, ABSENT);
    best.clear();
    if length == 0 {
        best.resize(queries.len() / padded, f32::NEG_INFINITY);
        return;
    }
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 if head.width == avx2::EIGHT => {
            narrow::scores(head, blocks, queries, scores);
        }
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 if padded == head.width => {
            avx2::scores(head, blocks, queries, scores);
        }
        _ => products(isa, head, blocks, Columns::new(queries, padded), scores),
    }
    for (query, scores) in scores.chunks_exact_mut(length).enumerate() {
        let mask = &head.mask[query % head.slots() * head.context()..][..head.context()];
        best.push(match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::AvxVnni | Level::Avx512 => avx2::finish(scores, blocks, head.scale, mask),
            _ => finish(isa, scores, blocks, head.scale, mask),
        });
    }
}

/// Products of every query with every key of `blocks`.
fn products(isa: Isa, head: &Head<'_>, blocks: &[u32], queries: Columns<'_>, scores: &mut [f32]) {
    let length = blocks.len() * BLOCK;
    for (index, &block) in blocks.iter().enumerate() {
        let keys = rows_of(head.keys, block, head.width).chunks_exact(head.width);
        for (position, key) in keys.enumerate() {
            let at = index * BLOCK + position;
            dots(isa, key, queries, |query, sum| scores[query * length + at] = sum);
        }
    }
}

/// Rounds one query's scores, scales them and rounds, adds the mask and rounds; gives the largest, NaN if one is.
fn finish(isa: Isa, scores: &mut [f32], blocks: &[u32], scale: Option<f16>, mask: &[f16]) -> f32 {
    for (scores, &block) in scores.chunks_exact_mut(BLOCK).zip(blocks) {
        to_half(isa, scores);
        if let Some(scale) = scale {
            for score in scores.iter_mut() {
                *score *= scale.to_f32();
            }
            to_half(isa, scores);
        }
        // A position that is not there has no mask; its score stays.
        let mask = &mask[block as usize * BLOCK..];
        scores.iter_mut().zip(mask).for_each(|(score, mask)| *score += mask.to_f32());
        to_half(isa, scores);
    }
    let any_nan = scores.iter().any(|score| score.is_nan());
    if any_nan { f32::NAN } else { scores.iter().copied().fold(f32::NEG_INFINITY, f32::max) }
}

/// Scores of every query with the first `positions` positions, before scale and mask; zero where the mask hides them.
pub(super) fn visible_scores(isa: Isa, head: &Head<'_>, positions: usize) -> Vec<f16> {
    let mut queries = Vec::new();
    let padded = head.width.next_multiple_of(LANES);
    widen_rows(isa, head.queries, (head.width, padded), &mut queries);
    let columns = Columns::new(&queries, padded);
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
pub(super) fn softmax(isa: Isa, scratch: &mut Scratch) {
    let length = scratch.blocks.len() * BLOCK;
    for (&largest, scores) in scratch.best.iter().zip(scratch.scores.chunks_exact_mut(length.max(1))) {
        weights(isa, largest, scores);
        match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::AvxVnni | Level::Avx512 => avx2::round(scores),
            _ => scores.chunks_exact_mut(BLOCK).for_each(|values| to_half(isa, values)),
        }
    }
}

/// Sums of the values by weight.
pub(super) fn combine(isa: Isa, head: &Head<'_>, scratch: &mut Scratch, out: &mut [f16]) {
    let Scratch { blocks, rows, scores, sums, .. } = scratch;
    let padded = padded(isa, head.width);
    let count = head.queries.len() / head.width;
    sums.resize(count * LANES * padded, 0.0);
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 if padded == head.width => {
            avx2::combine(head, blocks, scores, sums);
        }
        _ => {
            sums.fill(0.0);
            add_blocks(isa, head, blocks, scores, rows, sums);
        }
    }
    for (sums, out) in sums.chunks_exact_mut(LANES * padded).zip(out.chunks_exact_mut(head.width)) {
        fold_rows(isa, padded, sums);
        narrow(isa, &sums[..head.width], out);
    }
}

/// Adds the values of `blocks`, weighted, to the sums of each query: per lane, the padded width.
fn add_blocks(
    isa: Isa,
    head: &Head<'_>,
    blocks: &[u32],
    weights: &[f32],
    rows: &mut Vec<f32>,
    sums: &mut [f32],
) {
    let padded = padded(isa, head.width);
    for (index, &block) in blocks.iter().enumerate() {
        widen_rows(isa, rows_of(head.values, block, head.width), (head.width, padded), rows);
        let range = block as usize * BLOCK..(block as usize * BLOCK + BLOCK).min(head.context());
        let finite = head.values.largest[range].iter().all(|&largest| largest < 0x7c00);
        for (query, sums) in sums.chunks_exact_mut(LANES * padded).enumerate() {
            let weights = &weights[(query * blocks.len() + index) * BLOCK..][..BLOCK];
            add_weighted(isa, weights, rows, padded, finite, sums);
        }
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

for_each_isa! {
    /// The largest of `rows`, and of `largest` as it was.
    pub(super) fn largest_of(rows: &[u16], largest: &mut u16) {
        *largest = rows.iter().copied().fold(*largest, u16::max);
    }
}

for_each_isa! {
    /// The sum of the magnitudes of `values`, in no order that matters.
    pub(super) fn size_of(values: &[f32], size: &mut f64) {
        let (eights, rest) = values.as_chunks::<8>();
        let mut lanes = [0f64; 8];
        for eight in eights {
            for lane in 0..8 {
                lanes[lane] += f64::from(eight[lane].abs());
            }
        }
        *size = lanes.iter().sum::<f64>() + rest.iter().map(|value| f64::from(value.abs())).sum::<f64>();
    }
}
