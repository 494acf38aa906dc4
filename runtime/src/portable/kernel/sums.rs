//! Sums over the channels of `[k, inner]`, in lane order: see [`crate::portable::arith::lanes`].

use super::isa::for_each_isa;
use crate::portable::arith::lanes::{self, LANES};

for_each_isa! {
    /// Squares each of `values`.
    pub(super) fn square(values: &mut [f32]) {
        for value in values.iter_mut() {
            *value *= *value;
        }
    }
}

for_each_isa! {
    /// Adds to each of `lanes` `[16, inner]` the values that fall to it; the first of them falls to the first.
    pub(super) fn accumulate(values: &[f32], lanes: &mut [f32]) {
        if let ([lanes], []) = lanes.as_chunks_mut::<LANES>() {
            let (whole, rest) = values.as_chunks::<LANES>();
            let mut sums = *lanes;
            for terms in whole {
                for lane in 0..LANES {
                    sums[lane] += terms[lane];
                }
            }
            sums.iter_mut().zip(rest).for_each(|(sum, term)| *sum += term);
            *lanes = sums;
            return;
        }
        for terms in values.chunks(lanes.len().max(1)) {
            lanes.iter_mut().zip(terms).for_each(|(lane, term)| *lane += term);
        }
    }
}

for_each_isa! {
    /// Adds up `lanes` `[16, inner]` into its first `inner`.
    pub(super) fn fold(lanes: &mut [f32], inner: usize) {
        if let ([first, ..], 1) = (lanes.as_chunks_mut::<LANES>().0, inner) {
            first[0] = lanes::fold(*first);
            return;
        }
        for half in [8, 4, 2, 1] {
            let (low, high) = lanes[..2 * half * inner].split_at_mut(half * inner);
            low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        }
    }
}
