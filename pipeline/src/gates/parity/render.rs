//! A report for people: a table, then what failed, token by token.

use std::fmt::{self, Display, Formatter};

use super::report::{Case, Failure, Invariance, ParityCheck, ParityReport};

impl Display for Invariance {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Slot => "slot",
            Self::Stale => "stale",
            Self::Width => "width",
        })
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Block => "block",
            Self::Drafts => "drafts",
            Self::Rejected => "rejected",
            Self::Poison => "poison",
            Self::Narrow => "narrow",
        })
    }
}

impl Display for ParityReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let context = self.context.map(|context| format!(", context {context}")).unwrap_or_default();
        writeln!(
            f,
            "parity of {} on {}, {} slots{context}: {}",
            self.shard,
            self.device,
            self.block,
            verdict(self.pass)
        )?;
        let width = self.checks.iter().map(|check| check.input.len()).max().unwrap_or(0).max("input".len());
        writeln!(
            f,
            "  {:<6} {:<9} {:<width$}  {:>9}  {:>9}  {:>9}  {:>8}  {:>8}  exact",
            "what", "case", "input", "all cos", "worst cos", "worst upd", "rmse", "max abs"
        )?;
        for check in &self.checks {
            writeln!(
                f,
                "  {:<6} {:<9} {:<width$}  {:>9}  {:>9}  {:>9}  {:>8}  {:>8}  {:<5}  {}",
                check.invariance,
                check.case,
                check.input,
                cosine(check.seq_vs_block_cos),
                worst(&check.per_token_cos),
                worst(&check.update_per_token_cos),
                small(check.rmse),
                small(check.max_abs),
                if check.bit_exact { "yes" } else { "no" },
                verdict(check.pass),
            )?;
        }
        for not_run in &self.not_run {
            writeln!(f, "  {:<6} not run: {}", not_run.invariance, not_run.reason)?;
        }
        for check in self.checks.iter().filter(|check| !check.pass) {
            writeln!(f, "{}, {}, {}:", check.invariance, check.case, check.input)?;
            for &token in &check.failing_tokens {
                writeln!(f, "  {}", failing(check, token))?;
            }
        }
        Ok(())
    }
}

impl ParityReport {
    /// One line: the verdict, and for a shard that failed, what failed first and how much more there is.
    pub fn summary(&self) -> String {
        let failed: Vec<&ParityCheck> = self.checks.iter().filter(|check| !check.pass).collect();
        let Some(first) = failed.first() else {
            return format!("{}: {} comparisons, all within their limits", self.shard, self.checks.len());
        };
        let token = first.failing_tokens.first().map(|&token| failing(first, token)).unwrap_or_default();
        format!(
            "{}: {} of {} comparisons failed; the first is {}/{} on {}, tokens {}: {token}",
            self.shard,
            failed.len(),
            self.checks.len(),
            first.invariance,
            first.case,
            first.input,
            first.failing_tokens.iter().map(usize::to_string).collect::<Vec<_>>().join(" "),
        )
    }
}

/// A failing token, where it sat, and every reason.
fn failing(check: &ParityCheck, token: usize) -> String {
    let reasons: Vec<String> = check
        .failures
        .iter()
        .filter(|failure| failure.token() == token)
        .map(|failure| match failure {
            Failure::NotFinite { .. } => "NaN or infinity".to_owned(),
            Failure::Cosine { value, limit, .. } => format!("cosine {value:.6} below {limit}"),
            Failure::UpdateCosine { value, limit, .. } => format!("update cosine {value:.6} below {limit}"),
            Failure::NotBitExact { .. } => "bits differ".to_owned(),
            Failure::Length { .. } => "outputs of different length".to_owned(),
        })
        .collect();
    let slot = check.slots.get(token).copied().unwrap_or(0);
    format!("token {token} (position {}, slot {slot}): {}", check.start + token, reasons.join(", "))
}

fn verdict(pass: bool) -> &'static str {
    if pass { "ok" } else { "FAILED" }
}

fn cosine(value: Option<f64>) -> String {
    value.map_or_else(|| "NaN".to_owned(), |value| format!("{value:.6}"))
}

fn small(value: Option<f64>) -> String {
    match value {
        None => "NaN".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(value) => format!("{value:.1e}"),
    }
}

/// The smallest; a spoiled figure is worse than any.
fn worst(values: &[Option<f64>]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    cosine(
        values.iter().copied().collect::<Option<Vec<f64>>>().map(|all| all.into_iter().fold(1.0, f64::min)),
    )
}
