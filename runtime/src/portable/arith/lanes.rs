//! The one order in which floating-point sums are taken.
//!
//! Term `i` of a sum goes to lane `i mod 16`; each lane starts at +0 and adds its terms in ascending order of `i`; the
//! lanes are then folded in halves: lane `j` takes lane `j + 8`, then `j + 4`, `j + 2`, `j + 1`. All in fp32.
//!
//! Two consequences are used everywhere. A product of two fp16 numbers is exact in fp32 (22 significant bits), so a
//! fused multiply-add gives the same bits as a multiplication and an addition. And a lane that starts at +0 is never
//! −0, so leaving out a term that is exactly ±0 changes nothing.

/// Lanes of every fp32 sum.
pub const LANES: usize = 16;

/// A sum in the making.
#[derive(Debug, Clone, Default)]
pub struct LaneSum([f32; LANES]);

impl LaneSum {
    /// Adds the term at `index`. Indices of one lane must come in ascending order.
    pub fn add(&mut self, index: usize, term: f32) {
        self.0[index % LANES] += term;
    }

    /// Folds the lanes.
    pub fn total(self) -> f32 {
        fold(self.0)
    }
}

/// Folds sixteen lanes in halves.
#[inline(always)]
pub fn fold(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// The sum of `terms` in lane order.
pub fn sum(terms: impl IntoIterator<Item = f32>) -> f32 {
    let mut sum = LaneSum::default();
    for (index, term) in terms.into_iter().enumerate() {
        sum.add(index, term);
    }
    sum.total()
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn folds_in_halves() {
        // Lane 0 and lane 8 meet before either meets lane 4: 2^24 + 1 is lost in fp32, 2^24 + 2 is not.
        let mut lanes = [0.0; LANES];
        (lanes[0], lanes[8], lanes[4]) = (16_777_216.0, 1.0, 1.0);
        assert_eq!(fold(lanes), 16_777_216.0);
        (lanes[0], lanes[8], lanes[4], lanes[12]) = (16_777_216.0, 0.0, 1.0, 1.0);
        assert_eq!(fold(lanes), 16_777_218.0);
    }

    proptest! {
        #[test]
        fn products_of_fp16_are_exact_in_fp32(a in any::<u16>(), b in any::<u16>()) {
            let (a, b) = (f16::from_bits(a), f16::from_bits(b));
            prop_assume!(a.is_finite() && b.is_finite());
            prop_assert_eq!(f64::from(a.to_f32() * b.to_f32()), a.to_f64() * b.to_f64());
        }

        #[test]
        fn zero_terms_may_be_left_out(terms in prop::collection::vec((any::<f32>(), 0u8..3), 0..100)) {
            let terms: Vec<f32> =
                terms.iter().map(|&(x, kind)| if kind == 0 { 0.0 } else if kind == 1 { -0.0 } else { x }).collect();
            let mut skipping = LaneSum::default();
            for (index, &term) in terms.iter().enumerate().filter(|(_, term)| **term != 0.0) {
                skipping.add(index, term);
            }
            let (all, some) = (sum(terms.iter().copied()), skipping.total());
            prop_assert!(all.to_bits() == some.to_bits() || (all.is_nan() && some.is_nan()));
        }
    }
}
