//! What the gate found, as data.

use serde::{Deserialize, Serialize};

use super::measure::{self, TextFigures, TokenFigures};
use super::text::TextSource;
use super::thresholds::GoldenLimits;
use crate::stages::quantize::Quantization;

/// Version of the report's shape.
pub const SCHEMA: u32 = 1;

/// A bundle's golden report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The device that ran the shards.
    pub device: String,
    /// How the shards' weights are stored.
    pub quantization: Quantization,
    /// What was read.
    pub text: TextReport,
    /// The shards against the reference: with the weights that they store, then with the file's. Empty if the shards' logits cannot
    /// be compared at all.
    pub comparisons: Vec<Comparison>,
    /// Every demand that was not met, what spoils others first.
    pub failures: Vec<Failure>,
    /// Whether there are none.
    pub pass: bool,
    /// Why the shards did not pass, in one sentence; absent when they did.
    pub reason: Option<String>,
}

/// Which weights the reference runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// Rounded as the shards store them, so that a difference is a mistake.
    Stored,
    /// Those of the model file, so that a difference is what the shards cost.
    File,
}

/// The shards against one run of the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The reference's weights.
    pub weights: Weights,
    /// Figures over the whole text.
    pub figures: TextFigures,
    /// Every figure that is held to a limit.
    pub checks: Vec<GoldenCheck>,
    /// Figures of each position.
    pub per_token: Vec<TokenFigures>,
    /// What was demanded.
    pub thresholds: GoldenLimits,
    /// Whether every check passed.
    pub pass: bool,
}

impl Comparison {
    /// Sums up the positions' figures and holds them to `thresholds`.
    pub(super) fn new(weights: Weights, per_token: Vec<TokenFigures>, thresholds: GoldenLimits) -> Self {
        let figures = measure::summarize(&per_token);
        let checks = judge(&figures, &thresholds);
        let pass = checks.iter().all(|check| check.pass);
        Self { weights, figures, checks, per_token, thresholds, pass }
    }

    /// The checks that failed.
    pub(super) fn failures(&self) -> impl Iterator<Item = Failure> + '_ {
        self.checks.iter().filter(|check| !check.pass).map(|check| {
            let &GoldenCheck { measure, value, token, limit, .. } = check;
            Failure::Limit { weights: self.weights, measure, value, token, limit }
        })
    }
}

/// The text that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextReport {
    /// Tokens looked at.
    pub tokens: usize,
    /// Where they come from.
    pub source: TextSource,
}

/// A figure with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Mean cosine of centred logits.
    CosineMean,
    /// Smallest cosine of any token.
    CosineWorst,
    /// Mean KL divergence.
    KlMean,
    /// Largest KL divergence of any token.
    KlWorst,
    /// Share of positions with the same likeliest token.
    Top1Agreement,
}

/// Which side of a limit is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The limit and above.
    AtLeast,
    /// The limit and below.
    AtMost,
}

/// One figure held to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GoldenCheck {
    /// Which figure.
    pub measure: Measure,
    /// Its value; `null` if it was spoiled or could not be taken.
    pub value: Option<f64>,
    /// The position it belongs to; `null` for a figure of the whole text.
    pub token: Option<usize>,
    /// Which side of the limit is good.
    pub bound: Bound,
    /// The limit.
    pub limit: f64,
    /// Whether it is met.
    pub pass: bool,
}

/// Whose logits they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The reference's.
    Reference,
    /// The shards'.
    Shards,
}

/// A demand that was not met.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Failure {
    /// The shards gave no logits at a position.
    Missing {
        /// The position.
        token: usize,
    },
    /// The shards gave another number of logits than the model has tokens.
    Length {
        /// The position.
        token: usize,
        /// Tokens in the vocabulary.
        expected: usize,
        /// Logits given.
        found: usize,
    },
    /// A logit is NaN or infinite.
    NotFinite {
        /// The position.
        token: usize,
        /// Whose logits they are.
        side: Side,
        /// The first such logit's token id.
        logit: usize,
    },
    /// A figure does not meet its limit.
    Limit {
        /// The reference's weights.
        weights: Weights,
        /// Which figure.
        measure: Measure,
        /// Its value; `null` if it could not be taken.
        value: Option<f64>,
        /// The position it belongs to; `null` for a figure of the whole text.
        token: Option<usize>,
        /// The limit.
        limit: f64,
    },
}

/// Holds every figure to its limit.
fn judge(figures: &TextFigures, limits: &GoldenLimits) -> Vec<GoldenCheck> {
    let check = |measure, value: Option<f64>, token, bound, limit| {
        // False when either is NaN.
        let met = |value: f64| match bound {
            Bound::AtLeast => value >= limit,
            Bound::AtMost => value <= limit,
        };
        GoldenCheck { measure, value, token, bound, limit, pass: value.is_some_and(met) }
    };
    let (cosine, kl) = (figures.cosine_worst, figures.kl_worst);
    vec![
        check(Measure::CosineMean, figures.cosine_mean, None, Bound::AtLeast, limits.cosine_mean),
        check(
            Measure::CosineWorst,
            cosine.map(|worst| worst.value),
            cosine.map(|worst| worst.token),
            Bound::AtLeast,
            limits.cosine_worst,
        ),
        check(Measure::KlMean, figures.kl_mean, None, Bound::AtMost, limits.kl_mean),
        check(
            Measure::KlWorst,
            kl.map(|worst| worst.value),
            kl.map(|worst| worst.token),
            Bound::AtMost,
            limits.kl_worst,
        ),
        check(
            Measure::Top1Agreement,
            Some(figures.top1_agreement),
            None,
            Bound::AtLeast,
            limits.top1_agreement,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::golden::measure::Worst;

    const LIMITS: GoldenLimits = GoldenLimits {
        cosine_mean: 0.9,
        cosine_worst: 0.8,
        kl_mean: 0.1,
        kl_worst: 0.2,
        top1_agreement: 0.75,
    };

    /// Exactly at every limit.
    fn figures() -> TextFigures {
        TextFigures {
            cosine_mean: Some(0.9),
            cosine_worst: Some(Worst { value: 0.8, token: 3 }),
            kl_mean: Some(0.1),
            kl_worst: Some(Worst { value: 0.2, token: 4 }),
            top1_agreement: 0.75,
            max_abs: None,
            perplexity_reference: None,
            perplexity_shards: None,
        }
    }

    fn failed(figures: &TextFigures, limits: &GoldenLimits) -> Vec<Measure> {
        judge(figures, limits).iter().filter(|check| !check.pass).map(|check| check.measure).collect()
    }

    #[test]
    fn each_figure_is_held_to_its_own_limit() {
        assert_eq!(failed(&figures(), &LIMITS), []);
        let worst = |value| Some(Worst { value, token: 0 });
        for (measure, figures) in [
            (Measure::CosineMean, TextFigures { cosine_mean: Some(0.89), ..figures() }),
            (Measure::CosineWorst, TextFigures { cosine_worst: worst(0.79), ..figures() }),
            (Measure::KlMean, TextFigures { kl_mean: Some(0.11), ..figures() }),
            (Measure::KlWorst, TextFigures { kl_worst: worst(0.21), ..figures() }),
            (Measure::Top1Agreement, TextFigures { top1_agreement: 0.74, ..figures() }),
            (Measure::CosineMean, TextFigures { cosine_mean: None, ..figures() }),
            (Measure::KlWorst, TextFigures { kl_worst: None, ..figures() }),
        ] {
            assert_eq!(failed(&figures, &LIMITS), [measure], "{figures:?}");
        }
    }

    #[test]
    fn a_limit_that_is_not_a_number_is_never_met() {
        let nan = f64::NAN;
        let limits = GoldenLimits {
            cosine_mean: nan,
            cosine_worst: nan,
            kl_mean: nan,
            kl_worst: nan,
            top1_agreement: nan,
        };
        assert_eq!(failed(&figures(), &limits).len(), 5);
    }
}
