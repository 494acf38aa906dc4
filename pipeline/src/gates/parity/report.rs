//! What the gate found, as data.

use half::f16;
use serde::{Deserialize, Serialize};

use super::input::Stream;
use super::metrics::{Distance, finite, same_bits, update, wide};
use super::thresholds::Limits;

/// Version of the report's shape.
pub const SCHEMA: u32 = 1;

/// A shard's parity report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParityReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The shard.
    pub shard: String,
    /// The device that ran it.
    pub device: String,
    /// Slots of a pass, T.
    pub block: usize,
    /// Positions of the KV cache; `null` for a head.
    pub context: Option<usize>,
    /// Every comparison made.
    pub checks: Vec<ParityCheck>,
    /// Invariances that do not apply to this shard or could not be looked at, and why.
    pub not_run: Vec<NotRun>,
    /// Whether every check passed.
    pub pass: bool,
}

/// What must not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Invariance {
    /// Which slot a token sits in, and what the later slots hold.
    Slot,
    /// What lies in the KV cache behind the mask.
    Stale,
    /// How many slots the program has.
    Width,
}

/// The pair of runs compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// Several tokens a pass, against one a pass.
    Block,
    /// Drafts in the free slots, against unused slots.
    Drafts,
    /// What rejected drafts left in the cache, against zeros.
    Rejected,
    /// Poison in every row behind the mask, against zeros.
    Poison,
    /// The program of another width, against this one.
    Narrow,
}

/// One comparison. Lists have one entry a token; `null` stands for a figure that a NaN or an infinity spoiled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParityCheck {
    /// What must not matter.
    pub invariance: Invariance,
    /// The pair of runs.
    pub case: Case,
    /// What was fed.
    pub input: String,
    /// Position of the first token.
    pub start: usize,
    /// The slot in which each token sat in the run under test.
    pub slots: Vec<usize>,
    /// Cosine over all tokens together. For information: it decides nothing.
    pub seq_vs_block_cos: Option<f64>,
    /// Cosine of each token's output.
    pub per_token_cos: Vec<Option<f64>>,
    /// Cosine of what the shard added to each token's hidden state; empty for a head, which adds to nothing.
    pub update_per_token_cos: Vec<Option<f64>>,
    /// Root mean square difference of the outputs.
    pub rmse: Option<f64>,
    /// Largest difference of the outputs.
    pub max_abs: Option<f64>,
    /// Whether every bit of the outputs is equal.
    pub bit_exact: bool,
    /// What was demanded.
    pub thresholds: Limits,
    /// Every demand that was not met.
    pub failures: Vec<Failure>,
    /// The tokens concerned, in order.
    pub failing_tokens: Vec<usize>,
    /// Whether there are none.
    pub pass: bool,
}

/// A demand that a token did not meet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Failure {
    /// One of the two outputs holds a NaN or an infinity.
    NotFinite {
        /// The token.
        token: usize,
    },
    /// The cosine of the output is too small.
    Cosine {
        /// The token.
        token: usize,
        /// Its cosine.
        value: f64,
        /// The least allowed.
        limit: f64,
    },
    /// The cosine of the update is too small.
    UpdateCosine {
        /// The token.
        token: usize,
        /// Its cosine.
        value: f64,
        /// The least allowed.
        limit: f64,
    },
    /// Bits differ where they must not.
    NotBitExact {
        /// The token.
        token: usize,
    },
    /// The runs gave different numbers of values: the programs are not the same function.
    Length {
        /// The token.
        token: usize,
    },
}

impl Failure {
    /// The token concerned.
    pub fn token(&self) -> usize {
        match *self {
            Self::NotFinite { token }
            | Self::Cosine { token, .. }
            | Self::UpdateCosine { token, .. }
            | Self::NotBitExact { token }
            | Self::Length { token } => token,
        }
    }
}

/// An invariance that was not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRun {
    /// Which one.
    pub invariance: Invariance,
    /// Why not.
    pub reason: String,
}

/// Two runs of one stream, token by token.
pub(super) struct Compared<'a> {
    pub(super) invariance: Invariance,
    pub(super) case: Case,
    pub(super) stream: &'a Stream,
    pub(super) slots: &'a [usize],
    /// Hidden states fed, when outputs are hidden states too.
    pub(super) inputs: Option<&'a [Vec<f16>]>,
    pub(super) expected: &'a [Vec<f16>],
    pub(super) found: &'a [Vec<f16>],
}

impl Compared<'_> {
    /// Measures every token and holds it to `limits`. A NaN limit is never met.
    pub(super) fn judge(&self, limits: Limits) -> ParityCheck {
        let mut failures = Vec::new();
        let mut distances = Vec::new();
        let mut updates = Vec::new();
        let mut bit_exact = true;
        for (token, (expected, found)) in self.expected.iter().zip(self.found).enumerate() {
            let distance = Distance::between(wide(expected), wide(found));
            let input = self.inputs.and_then(|inputs| inputs.get(token));
            let changed =
                input.map(|input| Distance::between(update(expected, input), update(found, input)).cosine());
            let same = same_bits(expected, found);
            bit_exact &= same;
            if expected.len() != found.len() {
                failures.push(Failure::Length { token });
            }
            if finite(expected) && finite(found) {
                let limit = limits.per_token_cos;
                if let Some(value) = distance.cosine().filter(|&value| !at_least(value, limit)) {
                    failures.push(Failure::Cosine { token, value, limit });
                }
                let limit = limits.update_per_token_cos;
                if let Some(value) = changed.flatten().filter(|&value| !at_least(value, limit)) {
                    failures.push(Failure::UpdateCosine { token, value, limit });
                }
                if limits.bit_exact && !same {
                    failures.push(Failure::NotBitExact { token });
                }
            } else {
                failures.push(Failure::NotFinite { token });
            }
            distances.push(distance);
            updates.extend(changed);
        }
        let (common, longest) = (distances.len(), self.expected.len().max(self.found.len()));
        failures.extend((common..longest).map(|token| Failure::Length { token }));
        bit_exact &= common == longest;
        let all = distances.iter().fold(Distance::default(), Distance::and);
        let mut failing_tokens: Vec<usize> = failures.iter().map(Failure::token).collect();
        failing_tokens.dedup();
        ParityCheck {
            invariance: self.invariance,
            case: self.case,
            input: self.stream.name.clone(),
            start: self.stream.start,
            slots: self.slots.to_vec(),
            seq_vs_block_cos: all.cosine(),
            per_token_cos: distances.iter().map(Distance::cosine).collect(),
            update_per_token_cos: updates,
            rmse: all.rmse(),
            max_abs: all.max_abs(),
            bit_exact,
            thresholds: limits,
            pass: failures.is_empty(),
            failures,
            failing_tokens,
        }
    }
}

/// False when either is NaN.
fn at_least(value: f64, limit: f64) -> bool {
    value >= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { per_token_cos: 0.999, update_per_token_cos: 0.999, bit_exact: false };

    fn row(values: [f32; 2]) -> Vec<f16> {
        values.map(f16::from_f32).to_vec()
    }

    fn judge(
        inputs: Option<&[Vec<f16>]>,
        expected: &[Vec<f16>],
        found: &[Vec<f16>],
        limits: Limits,
    ) -> ParityCheck {
        let stream = Stream { name: "by hand".to_owned(), start: 5, rows: vec![], drafts: vec![] };
        let (invariance, case, slots) = (Invariance::Slot, Case::Block, &[0, 1, 2][..]);
        Compared { invariance, case, stream: &stream, slots, inputs, expected, found }.judge(limits)
    }

    #[test]
    fn one_quiet_wrong_token_fails_whatever_the_aggregate_says() {
        let expected = [row([100.0, 0.0]), row([1.0, 0.0]), row([0.0, 100.0])];
        let found = [row([100.0, 0.0]), row([0.0, 1.0]), row([0.0, 100.0])];
        let check = judge(None, &expected, &found, LIMITS);
        assert!(check.seq_vs_block_cos.unwrap() > 0.9999, "the aggregate sees nothing");
        assert_eq!(check.failures, [Failure::Cosine { token: 1, value: 0.0, limit: 0.999 }]);
        assert_eq!((check.failing_tokens, check.pass), (vec![1], false));
    }

    #[test]
    fn a_small_wrong_update_on_a_loud_residual_fails_by_its_update_alone() {
        let inputs = [row([1000.0, 0.0])];
        let check = judge(Some(&inputs), &[row([1000.0, 4.0])], &[row([1004.0, 0.0])], LIMITS);
        assert!(check.per_token_cos[0].unwrap() > 0.9999);
        assert_eq!(check.failures, [Failure::UpdateCosine { token: 0, value: 0.0, limit: 0.999 }]);
    }

    #[test]
    fn a_token_with_several_faults_is_named_once() {
        let limits = Limits { bit_exact: true, ..LIMITS };
        let inputs = [row([0.0, 0.0])];
        let check = judge(Some(&inputs), &[row([1.0, 0.0])], &[row([0.0, 1.0])], limits);
        assert_eq!((check.failures.len(), check.failing_tokens), (3, vec![0]));
    }

    #[test]
    fn outputs_of_different_length_fail() {
        let check = judge(None, &[row([1.0, 2.0])], &[vec![f16::ONE]], LIMITS);
        assert!(check.failures.contains(&Failure::Length { token: 0 }) && !check.bit_exact);
    }

    #[test]
    fn a_run_that_gave_fewer_tokens_fails_for_each_that_is_missing() {
        let check = judge(None, &[row([1.0, 2.0]), row([1.0, 2.0])], &[row([1.0, 2.0])], LIMITS);
        assert_eq!(check.failures, [Failure::Length { token: 1 }]);
    }
}
