//! Reductions, softmax and layer norm over the middle axis of `[outer, k, inner]`, sums in lane order.

use half::f16;

use super::Isa;
use super::convert::{narrow, widen};
use super::isa::for_each_isa;
use super::sums::{accumulate, fold, square};
use crate::portable::arith::elementary::exp;
use crate::portable::arith::lanes::LANES;
use crate::portable::arith::operator::{maximum, minimum};
use crate::portable::graph::Reduction;

/// The extents around the axis that is combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extents {
    /// Product of the extents before it.
    pub outer: usize,
    /// Its own.
    pub k: usize,
    /// Product of the extents behind it.
    pub inner: usize,
}

/// Working memory: as many fp32 as [`Extents::scratch`] says.
type Scratch = [f32];

impl Extents {
    /// fp32 elements of working memory a reduction needs.
    pub fn scratch(&self) -> usize {
        (self.k + LANES) * self.inner
    }
}

/// Combines the elements along k into `out` `[outer, inner]`.
pub fn reduce(
    isa: Isa,
    kind: Reduction,
    extents: Extents,
    x: &[f16],
    out: &mut [f16],
    scratch: &mut Scratch,
) {
    let Extents { k, inner, .. } = extents;
    if (kind, inner) == (Reduction::Sum, 1) && matches!(k, 1 | 2 | 4 | 8) {
        let sums = match k {
            1 => sum_few::<1>,
            2 => sum_few::<2>,
            4 => sum_few::<4>,
            _ => sum_few::<8>,
        };
        return sums(isa, x, out);
    }
    let (values, rest) = scratch.split_at_mut(k * inner);
    let lanes = &mut rest[..LANES * inner];
    for outer in 0..extents.outer {
        widen(isa, &x[outer * k * inner..(outer + 1) * k * inner], values);
        match kind {
            Reduction::Sum | Reduction::Mean | Reduction::SumSquare => {
                if kind == Reduction::SumSquare {
                    square(isa, values);
                }
                sum(isa, values, inner, lanes);
                if kind == Reduction::Mean {
                    lanes[..inner].iter_mut().for_each(|sum| *sum /= k as f32);
                }
            }
            Reduction::Max => extreme(isa, values, inner, f32::NEG_INFINITY, true, lanes),
            Reduction::Min => extreme(isa, values, inner, f32::INFINITY, false, lanes),
        }
        narrow(isa, &lanes[..inner], &mut out[outer * inner..(outer + 1) * inner]);
    }
}

/// Sums of `K` neighbours each, without memory for lanes: those that get no term stay +0 and change nothing.
fn sum_few<const K: usize>(isa: Isa, x: &[f16], out: &mut [f16]) {
    let (mut values, mut sums) = ([0f32; 256], [0f32; 256]);
    for (x, out) in x.chunks(values.len()).zip(out.chunks_mut(values.len() / K)) {
        let (values, sums) = (&mut values[..x.len()], &mut sums[..out.len()]);
        widen(isa, x, values);
        for (terms, sum) in values.as_chunks::<K>().0.iter().zip(sums.iter_mut()) {
            let mut lanes = terms.map(|term| 0.0 + term);
            let mut half = K / 2;
            while half > 0 {
                for lane in 0..half {
                    lanes[lane] += lanes[lane + half];
                }
                half /= 2;
            }
            *sum = lanes[0];
        }
        narrow(isa, sums, out);
    }
}

/// e^(x − max) / Σ e^(x − max) along k.
pub fn softmax(isa: Isa, extents: Extents, x: &[f16], out: &mut [f16], scratch: &mut Scratch) {
    let Extents { k, inner, .. } = extents;
    let (values, rest) = scratch.split_at_mut(k * inner);
    let lanes = &mut rest[..LANES * inner];
    for outer in 0..extents.outer {
        let range = outer * k * inner..(outer + 1) * k * inner;
        widen(isa, &x[range.clone()], values);
        extreme(isa, values, inner, f32::NEG_INFINITY, true, lanes);
        powers(isa, values, &lanes[..inner]);
        sum(isa, values, inner, lanes);
        divide(isa, values, &lanes[..inner]);
        narrow(isa, values, &mut out[range]);
    }
}

/// What a layer norm multiplies with, adds, and adds to the variance.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// Factors along k.
    pub gamma: Option<&'a [f16]>,
    /// Terms along k.
    pub beta: Option<&'a [f16]>,
    /// Added to the variance.
    pub epsilon: f32,
}

/// (x − mean) / √(variance + epsilon) · gamma + beta along k.
pub fn layer_norm(
    isa: Isa,
    extents: Extents,
    affine: Affine<'_>,
    x: &[f16],
    out: &mut [f16],
    scratch: &mut Scratch,
) {
    let Extents { k, inner, .. } = extents;
    let (values, rest) = scratch.split_at_mut(k * inner);
    let lanes = &mut rest[..LANES * inner];
    let weight =
        |weights: Option<&[f16]>, index: usize| weights.map(|weights| weights[index / inner].to_f32());
    for outer in 0..extents.outer {
        let range = outer * k * inner..(outer + 1) * k * inner;
        widen(isa, &x[range.clone()], values);
        sum(isa, values, inner, lanes);
        for (index, value) in values.iter_mut().enumerate() {
            *value -= lanes[index % inner] / k as f32;
        }
        let differences = values.to_vec();
        square(isa, values);
        sum(isa, values, inner, lanes);
        lanes[..inner].iter_mut().for_each(|sum| *sum = 1.0 / (*sum / k as f32 + affine.epsilon).sqrt());
        for (index, (value, difference)) in values.iter_mut().zip(differences).enumerate() {
            let normalized = difference * lanes[index % inner];
            let scaled = weight(affine.gamma, index).map_or(normalized, |gamma| normalized * gamma);
            *value = weight(affine.beta, index).map_or(scaled, |beta| scaled + beta);
        }
        narrow(isa, values, &mut out[range]);
    }
}

/// The sums over k of `values` `[k, inner]`, left in the first `inner` of `lanes` `[16, inner]`.
fn sum(isa: Isa, values: &[f32], inner: usize, lanes: &mut [f32]) {
    lanes.fill(0.0);
    accumulate(isa, values, lanes);
    fold(isa, lanes, inner);
}

for_each_isa! {
    /// The largest or smallest over k, left in the first `inner` of `lanes`.
    fn extreme(values: &[f32], inner: usize, start: f32, largest: bool, lanes: &mut [f32]) {
        // Order does not matter: not even for zeros, whose order is defined, nor for NaN, which always wins.
        lanes.fill(start);
        for terms in values.chunks(LANES * inner.max(1)) {
            let pairs = lanes.iter_mut().zip(terms);
            if largest {
                pairs.for_each(|(lane, &term)| *lane = maximum(*lane, term));
            } else {
                pairs.for_each(|(lane, &term)| *lane = minimum(*lane, term));
            }
        }
        for half in [8, 4, 2, 1] {
            let (low, high) = lanes[..2 * half * inner].split_at_mut(half * inner);
            let pairs = low.iter_mut().zip(high);
            if largest {
                pairs.for_each(|(low, high)| *low = maximum(*low, *high));
            } else {
                pairs.for_each(|(low, high)| *low = minimum(*low, *high));
            }
        }
    }
}

for_each_isa! {
    fn powers(values: &mut [f32], largest: &[f32]) {
        if let [largest] = *largest {
            for value in values.iter_mut() {
                *value = exp(*value - largest);
            }
            return;
        }
        for values in values.chunks_exact_mut(largest.len().max(1)) {
            values.iter_mut().zip(largest).for_each(|(value, largest)| *value = exp(*value - largest));
        }
    }
}

for_each_isa! {
    fn divide(values: &mut [f32], sums: &[f32]) {
        if let [sum] = *sums {
            for value in values.iter_mut() {
                *value /= sum;
            }
            return;
        }
        for values in values.chunks_exact_mut(sums.len().max(1)) {
            values.iter_mut().zip(sums).for_each(|(value, sum)| *value /= sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portable::arith::half::round;
    use crate::portable::arith::lanes;
    use crate::portable::fixture::random::Random;

    #[test]
    fn sums_of_few_and_of_many_are_in_lane_order() {
        let mut random = Random(8);
        for k in [1, 2, 3, 4, 7, 8, 16, 40] {
            let extents = Extents { outer: 301, k, inner: 1 };
            let mut x = random.halves(301 * k, |random| f16::from_f32(1e3 * random.normal()));
            x[..k].fill(f16::NEG_ZERO);
            let terms = |row: &[f16]| row.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
            let expected: Vec<u16> = x.chunks(k).map(|row| round(lanes::sum(terms(row))).to_bits()).collect();
            for isa in Isa::available() {
                let mut out = vec![f16::ONE; 301];
                reduce(isa, Reduction::Sum, extents, &x, &mut out, &mut vec![0.0; extents.scratch()]);
                let found: Vec<u16> = out.iter().map(|x| x.to_bits()).collect();
                assert_eq!(found, expected, "{isa:?} k={k}");
            }
        }
    }
}
