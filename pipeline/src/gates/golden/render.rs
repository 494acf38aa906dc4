//! A report for people: the figures and their limits, then what failed.

use std::fmt::{self, Display, Formatter};

use super::measure::{TokenFigures, Worst};
use super::report::{Bound, Comparison, Failure, GoldenReport, Measure, Side, Weights};
use super::text::TextSource;

/// Tokens listed by themselves when a gate fails.
const LISTED: usize = 8;

impl Display for Measure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CosineMean => "mean cosine",
            Self::CosineWorst => "worst cosine",
            Self::KlMean => "mean KL",
            Self::KlWorst => "worst KL",
            Self::Top1Agreement => "top-1 agreement",
        })
    }
}

impl Display for TextSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("the built-in text"),
            Self::Given { name } => f.write_str(name),
            Self::TokenIds => f.write_str("token ids"),
        }
    }
}

impl Display for Weights {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stored => "the same weights",
            Self::File => "the file's weights",
        })
    }
}

impl Display for GoldenReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "golden on {}, {} weights, {} tokens of {}: {}",
            self.device,
            self.quantization,
            self.text.tokens,
            self.text.source,
            verdict(self.pass)
        )?;
        for failure in self.failures.iter().filter(|failure| !is_limit(failure)).take(LISTED) {
            writeln!(f, "  {}", described(failure))?;
        }
        self.comparisons.iter().try_for_each(|comparison| write!(f, "{comparison}"))
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "against the reference with {}: {}", self.weights, verdict(self.pass))?;
        writeln!(f, "  {:<15}  {:>9}  {:>9}  {:>5}", "figure", "value", "limit", "token")?;
        for check in &self.checks {
            let sign = match check.bound {
                Bound::AtLeast => "≥",
                Bound::AtMost => "≤",
            };
            let token = check.token.map(|token| token.to_string()).unwrap_or_default();
            writeln!(
                f,
                "  {:<15}  {:>9}  {:>9}  {token:>5}  {}",
                check.measure,
                figure(check.value),
                format!("{sign} {}", check.limit),
                verdict(check.pass)
            )?;
        }
        if let Some(Worst { value, token }) = self.figures.max_abs {
            writeln!(f, "  largest difference of centred logits: {value:.4} (token {token})")?;
        }
        writeln!(
            f,
            "  perplexity of the text: {} to the reference, {} to the shards",
            perplexity(self.figures.perplexity_reference),
            perplexity(self.figures.perplexity_shards)
        )?;
        if self.pass {
            return Ok(());
        }
        for (token, figures) in furthest(&self.per_token) {
            writeln!(
                f,
                "  token {token}: cosine {}, KL {}, top-1 {}",
                figure(figures.cosine),
                figure(figures.kl),
                if figures.top1_agrees { "agrees" } else { "differs" }
            )?;
        }
        Ok(())
    }
}

impl GoldenReport {
    /// One line: the chief figures, or why the gate failed.
    pub fn summary(&self) -> String {
        self.reason.clone().unwrap_or_else(|| {
            let figures = self.comparisons.iter().map(|Comparison { weights, figures, .. }| {
                let (kl, agreement) = (figure(figures.kl_mean), 100.0 * figures.top1_agreement);
                format!("mean KL {kl} nats and top-1 agreement {agreement:.1} % with {weights}")
            });
            let figures: Vec<String> = figures.collect();
            format!("{} tokens agree with the reference: {}", self.text.tokens, figures.join(", "))
        })
    }
}

/// Why shards on `device` did not pass, in one sentence; what spoils every other figure comes alone.
pub(super) fn reason(device: &str, failures: &[Failure]) -> Option<String> {
    let first = failures.first()?;
    Some(match first {
        Failure::NotFinite { side: Side::Reference, .. } => {
            format!("the reference forward itself breaks, so check the model file: {}", described(first))
        }
        Failure::Limit { weights, .. } => {
            let of =
                |failure: &&Failure| matches!(failure, Failure::Limit { weights: of, .. } if of == weights);
            let limits: Vec<String> = failures.iter().filter(of).map(described).collect();
            let blame = match weights {
                Weights::Stored => "do not compute what the model file says, even with the same weights",
                Weights::File => "lose too much of the model to how their weights are stored",
            };
            format!("the shards on {device} {blame}: {}", limits.join(", "))
        }
        _ => {
            let others = failures.iter().filter(|failure| !is_limit(failure)).count() - 1;
            let more = if others > 0 { format!(" (and {others} more of the kind)") } else { String::new() };
            format!("the shards on {device} gave no usable logits: {}{more}", described(first))
        }
    })
}

fn is_limit(failure: &Failure) -> bool {
    matches!(failure, Failure::Limit { .. })
}

fn described(failure: &Failure) -> String {
    match failure {
        Failure::Missing { token } => format!("token {token}: no logits"),
        Failure::Length { token, expected, found } => {
            format!("token {token}: {found} logits for a vocabulary of {expected}")
        }
        Failure::NotFinite { token, side, logit } => {
            let who = match side {
                Side::Reference => "the reference gives",
                Side::Shards => "the shards give",
            };
            format!("token {token}: {who} NaN or infinity for token id {logit}")
        }
        Failure::Limit { measure, value, token, limit, .. } => {
            let at = token.map(|token| format!(" (token {token})")).unwrap_or_default();
            let side = match measure {
                Measure::KlMean | Measure::KlWorst => "above",
                Measure::CosineMean | Measure::CosineWorst | Measure::Top1Agreement => "below",
            };
            match value {
                Some(_) => format!("{measure} {}{at} {side} {limit}", figure(*value)),
                None => format!("{measure} could not be taken"),
            }
        }
    }
}

/// The tokens of the largest divergence, largest first; spoiled ones before all.
fn furthest(tokens: &[TokenFigures]) -> Vec<(usize, &TokenFigures)> {
    let mut all: Vec<_> = tokens.iter().enumerate().collect();
    let size = |figures: &TokenFigures| figures.kl.unwrap_or(f64::INFINITY);
    all.sort_by(|(_, a), (_, b)| size(b).total_cmp(&size(a)));
    all.truncate(LISTED);
    all
}

fn verdict(pass: bool) -> &'static str {
    if pass { "ok" } else { "FAILED" }
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.6}"))
}

fn perplexity(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}
