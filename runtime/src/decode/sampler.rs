//! Sampling that is the same on every machine and with every drafter.
//!
//! Candidates pass four filters in the order of llama.cpp's defaults:
//!
//! 1. top-k: the k largest logits;
//! 2. top-p: of those, by probability descending, as few as together reach p, at least one;
//! 3. min-p: of those, the ones at least `min_p` times as probable as the first;
//! 4. temperature: logits are divided by it, and one candidate is drawn by the probabilities that follow.
//!
//! Probabilities in 2 and 3 are softmax over what the filter before let through, at temperature 1. All of it is f64 with [`libm`]'s
//! exponential, in one order: logit descending, ties to the lowest id. The random number of a position is a hash of the seed and the
//! position, not the next of a stream, so it does not matter how many tokens were drawn before or in what order.

use half::f16;

use crate::portable::arith::half::{NAN_ORDER, order};
use crate::token::TokenId;

/// What is asked of a sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides logits before the draw; 0 always takes the largest.
    pub temperature: f64,
    /// Candidates at most; 0 is no limit.
    pub top_k: usize,
    /// Probability that candidates reach together, above 0 to 1; 1 is no limit.
    pub top_p: f64,
    /// Smallest probability of a candidate, as a share of the largest; 0 is no limit.
    pub min_p: f64,
    /// Equal seeds give equal texts.
    pub seed: u64,
}

impl Sampling {
    /// Always the largest logit.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 };
}

/// Options that make no sampler.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// The temperature cannot divide.
    #[error("sampling: the temperature is {0}; give 0 for the most likely token, or a number above")]
    Temperature(f64),
    /// Not a probability that something can reach.
    #[error("sampling: top-p is {0}; give a number above 0, at most 1")]
    TopP(f64),
    /// Not a share.
    #[error("sampling: min-p is {0}; give a number from 0 to 1")]
    MinP(f64),
}

/// Draws tokens. Its memory is working memory only.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    /// Candidates, best first, as rank above inverted id: one number that sorts as they do.
    candidates: Vec<u64>,
    /// What each weighs.
    weights: Vec<f64>,
}

impl Sampler {
    /// A sampler with checked options.
    pub fn new(sampling: &Sampling) -> Result<Self, SamplingError> {
        let Sampling { temperature, top_p, min_p, .. } = *sampling;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(SamplingError::Temperature(temperature));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(SamplingError::TopP(top_p));
        }
        if !(0.0..=1.0).contains(&min_p) {
            return Err(SamplingError::MinP(min_p));
        }
        Ok(Self { sampling: *sampling, candidates: Vec::new(), weights: Vec::new() })
    }

    /// The token for `position`, by the whole vocabulary's `logits`; none if all of them are NaN.
    pub fn token(&mut self, logits: &[f16], position: usize) -> Option<TokenId> {
        let Sampling { temperature, top_k, top_p, min_p, seed } = self.sampling;
        self.candidates.clear();
        let placed = logits.iter().map(|&logit| order(logit)).enumerate();
        let placed = placed.filter(|&(_, place)| place != NAN_ORDER);
        self.candidates.extend(placed.map(|(id, place)| pack(place, id as TokenId)));
        let descending = |a: &u64, b: &u64| b.cmp(a);
        if top_k > 0 && top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(top_k - 1, descending);
            self.candidates.truncate(top_k);
        }
        self.candidates.sort_unstable_by(descending);

        if top_p < 1.0 {
            let total = self.weigh(logits, 1.0);
            let mut reached = 0.0;
            let enough = self.weights.iter().position(|weight| {
                reached += weight;
                reached >= top_p * total
            });
            self.candidates.truncate(enough.map_or(usize::MAX, |last| last + 1));
        }
        if min_p > 0.0 {
            self.weigh(logits, 1.0);
            // The first weighs 1.
            let enough = self.weights.iter().take_while(|&&weight| weight >= min_p).count();
            self.candidates.truncate(enough.max(1));
        }
        let total = self.weigh(logits, if temperature > 0.0 { temperature } else { f64::MIN_POSITIVE });
        let target = uniform(seed, position as u64) * total;
        let mut reached = 0.0;
        let drawn = self.weights.iter().position(|weight| {
            reached += weight;
            reached > target
        });
        // Rounding may leave the last sum at the target.
        let last = self.candidates.len().checked_sub(1)?;
        self.candidates.get(drawn.unwrap_or(last)).copied().map(unpack)
    }

    /// Sets the candidates' weights, e^((logit − largest) / temperature), and gives their sum.
    fn weigh(&mut self, logits: &[f16], temperature: f64) -> f64 {
        let logit =
            |candidate: u64| logits.get(unpack(candidate) as usize).map_or(f64::NAN, |logit| logit.to_f64());
        let largest = self.candidates.first().map_or(0.0, |&first| logit(first));
        self.weights.clear();
        self.weights.extend(self.candidates.iter().map(|&candidate| {
            let logit = logit(candidate);
            // Equal infinities have no difference.
            if logit.total_cmp(&largest).is_eq() { 1.0 } else { libm::exp((logit - largest) / temperature) }
        }));
        self.weights.iter().sum()
    }
}

fn pack(place: i16, id: TokenId) -> u64 {
    // Without its sign a place still sorts as it did.
    let rank = place.cast_unsigned() ^ 0x8000;
    u64::from(rank) << 32 | u64::from(!id)
}

fn unpack(candidate: u64) -> TokenId {
    !(candidate as TokenId)
}

/// A number from 0 to below 1 for every seed and position: the `SplitMix64` generator, started at the mixed seed and taken at the
/// position directly.
fn uniform(seed: u64, position: u64) -> f64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let bits = mix(mix(seed.wrapping_add(STEP)).wrapping_add(position.wrapping_add(1).wrapping_mul(STEP)));
    // 53 bits: every one of them fits.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
