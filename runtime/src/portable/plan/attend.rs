//! Attention as a step of a plan: heads shared among threads, and their scores for whoever looks.

use half::f16;

use super::scratch::Rest;
use super::step::{Attention, CacheHead};
use super::view::Sources;
use crate::portable::kernel::Isa;
use crate::portable::kernel::attention::{self, Rows, Visibility};
use crate::portable::observe::Watch;

/// Multiplications below which attention is not worth sharing.
const MIN_SHARED: usize = 1 << 14;

/// One KV head of `attention`, by its index.
fn head<'a>(
    attention: &Attention,
    index: usize,
    sources: Sources<'a>,
    visibility: &'a Visibility,
) -> attention::Head<'a> {
    let width = attention.width;
    let rows = |head: CacheHead| {
        let cache = &sources.caches[head.state];
        let range = head.first_row..head.first_row + head.rows;
        Rows {
            elements: &cache.elements()[range.start * width..range.end * width],
            largest: &cache.largest()[range],
        }
    };
    let head = &attention.heads[index];
    attention::Head {
        queries: sources.get(head.queries),
        keys: rows(head.keys),
        values: rows(head.values),
        mask: sources.get(attention.mask),
        visibility,
        scale: attention.scale,
        width,
    }
}

/// Writes the attention of every head to `out`.
pub(super) fn attend(attention: &Attention, sources: Sources<'_>, rest: Rest<'_>, out: &mut [f16]) {
    let visibility = &rest.visibilities[attention.visibility];
    let work = |index: usize, out: &mut [f16], scratch: &mut attention::Scratch| {
        attention::attend(rest.isa, head(attention, index, sources, visibility), out, scratch);
    };
    let visible = visibility.near().len() * 16;
    if out.len() * visible < MIN_SHARED {
        let heads = out.chunks_mut(attention.length).zip(rest.heads).enumerate();
        heads.for_each(|(index, (out, scratch))| work(index, out, scratch));
    } else {
        rest.threads.chunks_with(out, attention.length, rest.heads, work);
    }
}

/// Computes every head's scores once more and tells `watch` of them.
pub(super) fn tell_scores(
    watch: Watch<'_>,
    attention: &Attention,
    sources: Sources<'_>,
    isa: Isa,
    visibility: &Visibility,
) {
    for (index, step) in attention.heads.iter().enumerate() {
        let head = head(attention, index, sources, visibility);
        let (positions, scores) = attention::visible_scores(isa, head);
        let slots = head.slots();
        let heads = scores.len() / (slots * positions).max(1);
        watch.scores(step.scores, &[1, heads, slots, positions], &scores);
    }
}
