//! How far one row of logits is from another, in f64, and what a text's rows make together.
//!
//! A model's logits mean something only up to a common addend, which the softmax takes away. So rows are centred first: from each,
//! its mean is subtracted. Otherwise a large common addend would make any two rows parallel.

use half::f16;
use serde::{Deserialize, Serialize};

/// One position's figures. A figure is `null` (`None`) if a NaN or an infinity spoiled it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenFigures {
    /// Cosine of the centred logits.
    pub cosine: Option<f64>,
    /// KL(reference ‖ shards) in nats: what it costs to take the shards' distribution for the reference's.
    pub kl: Option<f64>,
    /// Largest difference of the centred logits.
    pub max_abs: Option<f64>,
    /// Whether both find the same token the likeliest; the lowest id of several.
    pub top1_agrees: bool,
    /// Probability that the reference gives the token which follows in the text, as −ln p; `null` for the last one.
    pub loss_reference: Option<f64>,
    /// The same of the shards.
    pub loss_shards: Option<f64>,
}

/// A figure and the position it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// The figure.
    pub value: f64,
    /// Position in the text.
    pub token: usize,
}

/// What the positions of a text make together. `null` if any of them is spoiled or if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TextFigures {
    /// Mean cosine of the centred logits.
    pub cosine_mean: Option<f64>,
    /// Smallest cosine.
    pub cosine_worst: Option<Worst>,
    /// Mean KL divergence in nats.
    pub kl_mean: Option<f64>,
    /// Largest KL divergence.
    pub kl_worst: Option<Worst>,
    /// Share of positions at which both find the same token the likeliest, 0 to 1.
    pub top1_agreement: f64,
    /// Largest difference of centred logits.
    pub max_abs: Option<Worst>,
    /// Perplexity of the text to the reference; `null` for one token.
    pub perplexity_reference: Option<f64>,
    /// Perplexity of the text to the shards.
    pub perplexity_shards: Option<f64>,
}

/// Compares the rows of one position. They must be of equal length; `next` is the token that follows in the text.
pub(super) fn compare(reference: &[f32], shards: &[f16], next: Option<u32>) -> TokenFigures {
    let reference = Row::new(reference.iter().map(|&logit| f64::from(logit)).collect());
    let shards = Row::new(shards.iter().map(|&logit| f64::from(logit)).collect());
    let whole = reference.finite && shards.finite && !reference.centred.is_empty();
    let next = next.map(|token| token as usize);
    let loss = |row: &Row| next.and_then(|token| row.loss(token));
    TokenFigures {
        cosine: whole.then(|| reference.cosine(&shards)),
        kl: whole.then(|| reference.divergence(&shards)),
        max_abs: whole.then(|| reference.max_abs(&shards)),
        top1_agrees: whole && reference.top == shards.top,
        loss_reference: loss(&reference),
        loss_shards: loss(&shards),
    }
}

/// The figures of a text.
pub(super) fn summarize(tokens: &[TokenFigures]) -> TextFigures {
    let list = |figure: fn(&TokenFigures) -> Option<f64>| {
        tokens.iter().map(figure).collect::<Option<Vec<f64>>>().filter(|all| !all.is_empty())
    };
    let mean = |all: &Vec<f64>| all.iter().sum::<f64>() / all.len() as f64;
    let (cosine, kl) = (list(|token| token.cosine), list(|token| token.kl));
    let perplexity = |loss: fn(&TokenFigures) -> Option<f64>| {
        let (_, followed) = tokens.split_last()?;
        let all = followed.iter().map(loss).collect::<Option<Vec<f64>>>().filter(|all| !all.is_empty())?;
        Some(libm::exp(mean(&all)))
    };
    TextFigures {
        cosine_mean: cosine.as_ref().map(mean),
        cosine_worst: cosine.as_deref().and_then(|all| first_extreme(all, |value, worst| value < worst)),
        kl_mean: kl.as_ref().map(mean),
        kl_worst: kl.as_deref().and_then(largest),
        top1_agreement: tokens.iter().filter(|token| token.top1_agrees).count() as f64
            / tokens.len().max(1) as f64,
        max_abs: list(|token| token.max_abs).as_deref().and_then(largest),
        perplexity_reference: perplexity(|token| token.loss_reference),
        perplexity_shards: perplexity(|token| token.loss_shards),
    }
}

fn largest(all: &[f64]) -> Option<Worst> {
    first_extreme(all, |value, worst| value > worst)
}

/// The first value that is worse than all others.
fn first_extreme(all: &[f64], worse: impl Fn(f64, f64) -> bool) -> Option<Worst> {
    let all = all.iter().copied().enumerate().map(|(token, value)| Worst { value, token });
    all.reduce(|worst, one| if worse(one.value, worst.value) { one } else { worst })
}

/// One row of logits, centred.
struct Row {
    centred: Vec<f64>,
    /// ln Σ exp of the centred logits.
    log_sum: f64,
    /// The likeliest token, the lowest of several.
    top: usize,
    finite: bool,
}

impl Row {
    fn new(mut logits: Vec<f64>) -> Self {
        let finite = logits.iter().all(|logit| logit.is_finite());
        let mean = logits.iter().sum::<f64>() / logits.len().max(1) as f64;
        for logit in &mut logits {
            *logit -= mean;
        }
        let (top, highest) = logits
            .iter()
            .copied()
            .enumerate()
            .fold((0, f64::NEG_INFINITY), |best, one| if one.1 > best.1 { one } else { best });
        let log_sum = highest + libm::log(logits.iter().map(|logit| libm::exp(logit - highest)).sum());
        Self { centred: logits, log_sum, top, finite }
    }

    /// Cosine of the angle; two constant rows agree (1), a constant row and another one do not (0).
    fn cosine(&self, other: &Self) -> f64 {
        let dot = |a: &Self, b: &Self| a.centred.iter().zip(&b.centred).map(|(a, b)| a * b).sum::<f64>();
        let (left, right) = (dot(self, self), dot(other, other));
        if left > 0.0 && right > 0.0 {
            (dot(self, other) / (left.sqrt() * right.sqrt())).clamp(-1.0, 1.0)
        } else if left > 0.0 || right > 0.0 {
            0.0
        } else {
            1.0
        }
    }

    /// Σ p · (ln p − ln q). Never negative but for rounding, which is cut off.
    fn divergence(&self, other: &Self) -> f64 {
        let terms = self.centred.iter().zip(&other.centred).map(|(p, q)| {
            let (ln_p, ln_q) = (p - self.log_sum, q - other.log_sum);
            libm::exp(ln_p) * (ln_p - ln_q)
        });
        terms.sum::<f64>().max(0.0)
    }

    fn max_abs(&self, other: &Self) -> f64 {
        self.centred.iter().zip(&other.centred).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    /// −ln p of `token`.
    fn loss(&self, token: usize) -> Option<f64> {
        self.centred.get(token).map(|logit| self.log_sum - logit).filter(|loss| loss.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn half(row: &[f32]) -> Vec<f16> {
        row.iter().map(|&value| f16::from_f32(value)).collect()
    }

    /// Rows whose values fp16 holds exactly.
    fn row(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec((-2000_i32..2000).prop_map(|value| value as f32 / 64.0), len)
    }

    fn softmax(row: &[f32]) -> Vec<f64> {
        let exps: Vec<f64> = row.iter().map(|&value| f64::from(value).exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.iter().map(|exp| exp / sum).collect()
    }

    fn centred(row: &[f32]) -> Vec<f64> {
        let mean = row.iter().map(|&value| f64::from(value)).sum::<f64>() / row.len() as f64;
        row.iter().map(|&value| f64::from(value) - mean).collect()
    }

    fn close(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found - expected).abs() <= 1e-9 * expected.abs().max(1.0))
    }

    #[test]
    fn figures_of_a_known_pair() {
        let ln3 = 3.0_f64.ln() as f32;
        let figures = compare(&[ln3, 0.0], &half(&[0.0, 0.0]), Some(0));
        // 3/4 · ln(3/2) + 1/4 · ln(1/2)
        assert!((figures.kl.unwrap() - 0.130_812).abs() < 1e-6);
        assert!((figures.loss_reference.unwrap() - (4.0_f64 / 3.0).ln()).abs() < 1e-6);
        assert!(close(figures.loss_shards, 2.0_f64.ln()));
        assert_eq!((figures.cosine, figures.top1_agrees), (Some(0.0), true));
        assert_eq!(figures.max_abs, Some(f64::from(ln3) / 2.0));
    }

    #[test]
    fn a_common_addend_changes_nothing_and_hides_nothing() {
        let figures = compare(&[1.0, 2.0, 4.0], &half(&[101.0, 102.0, 104.0]), Some(2));
        assert!(close(figures.cosine, 1.0) && close(figures.kl, 0.0) && close(figures.max_abs, 0.0));
        let figures = compare(&[101.0, 102.0, 104.0], &half(&[104.0, 102.0, 101.0]), None);
        assert!(figures.cosine.unwrap() < -0.9, "parallel, if the addend counted");
    }

    #[test]
    fn ties_go_to_the_lowest_token() {
        assert!(compare(&[0.0, 5.0, 5.0], &half(&[0.0, 5.0, 4.0]), None).top1_agrees);
        assert!(!compare(&[0.0, 5.0, 5.0], &half(&[0.0, 4.0, 5.0]), None).top1_agrees);
    }

    #[test]
    fn what_is_not_finite_spoils_every_figure_of_its_token_and_of_the_text() {
        let good = [1.0, 2.0];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let broken = [1.0, bad];
            for (a, b) in [(good, broken), (broken, good), (broken, broken)] {
                let figures = compare(&a, &half(&b), Some(0));
                assert_eq!((figures.cosine, figures.kl, figures.max_abs), (None, None, None));
                assert!(!figures.top1_agrees);
                let text = summarize(&[compare(&good, &half(&good), Some(0)), figures]);
                assert_eq!((text.cosine_mean, text.cosine_worst, text.max_abs), (None, None, None));
                assert_eq!((text.kl_mean, text.kl_worst, text.top1_agreement), (None, None, 0.5));
            }
        }
        assert_eq!(compare(&[], &[], None).cosine, None);
        let nothing = summarize(&[]);
        assert_eq!((nothing.cosine_mean, nothing.kl_mean, nothing.top1_agreement), (None, None, 0.0));
    }

    #[test]
    fn figures_of_a_text() {
        let token = |cosine, kl, agrees, loss| TokenFigures {
            cosine: Some(cosine),
            kl: Some(kl),
            max_abs: Some(kl),
            top1_agrees: agrees,
            loss_reference: loss,
            loss_shards: loss.map(|loss| 2.0 * loss),
        };
        let text = summarize(&[
            token(0.75, 0.25, true, Some(1.0)),
            token(0.25, 0.75, false, Some(2.0)),
            token(0.5, 0.5, true, None),
        ]);
        assert_eq!((text.cosine_mean, text.cosine_worst), (Some(0.5), Some(Worst { value: 0.25, token: 1 })));
        assert_eq!((text.kl_mean, text.kl_worst), (Some(0.5), Some(Worst { value: 0.75, token: 1 })));
        assert_eq!((text.top1_agreement, text.max_abs), (2.0 / 3.0, Some(Worst { value: 0.75, token: 1 })));
        assert!(
            close(text.perplexity_reference, 1.5_f64.exp()) && close(text.perplexity_shards, 3.0_f64.exp())
        );
        assert_eq!(summarize(&[token(1.0, 0.0, true, None)]).perplexity_reference, None);
    }

    proptest! {
        #[test]
        fn equal_rows_are_parallel_and_cost_nothing(row in row(1..60), next in 0_u32..60) {
            let figures = compare(&row, &half(&row), Some(next));
            prop_assert!(close(figures.cosine, 1.0));
            prop_assert_eq!((figures.kl, figures.max_abs, figures.top1_agrees), (Some(0.0), Some(0.0), true));
            prop_assert_eq!(figures.loss_reference, figures.loss_shards);
            prop_assert_eq!(figures.loss_reference.is_some(), (next as usize) < row.len());
        }

        #[test]
        fn figures_are_those_of_naive_formulas((a, b) in (2_usize..40).prop_flat_map(|len| (row(len), row(len)))) {
            let figures = compare(&a, &half(&b), Some(1));
            let (p, q) = (softmax(&a), softmax(&b));
            let kl: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
            prop_assert!(figures.kl.unwrap() >= 0.0 && (figures.kl.unwrap() - kl).abs() < 1e-9);
            prop_assert!((figures.loss_reference.unwrap() + p[1].ln()).abs() < 1e-9);
            prop_assert!((figures.loss_shards.unwrap() + q[1].ln()).abs() < 1e-9);
            let (a, b) = (centred(&a), centred(&b));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let norms = (dot(&a, &a) * dot(&b, &b)).sqrt();
            if norms > 0.0 {
                prop_assert!((figures.cosine.unwrap() - dot(&a, &b) / norms).abs() < 1e-9);
            }
            let max = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            prop_assert!(close(figures.max_abs, max));
        }
    }
}
