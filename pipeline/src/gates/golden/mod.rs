//! The golden gate: the shards of a whole model must say what an independent forward of the model file says.
//!
//! Shard gates compare a shard with itself and cannot see a mistake that every run makes alike: a stack built with the wrong rotary
//! width once passed them all and wrote nonsense. This gate runs a text through [`mod@reference`], which shares nothing with the build but
//! the decoding of stored weights, and through the shards, each position after the same tokens (teacher forcing), and compares the
//! logits at every position.
//!
//! Two runs of the reference are compared with:
//!
//! | the reference's weights | a difference is | limits |
//! |---|---|---|
//! | rounded as the shards store them | a mistake, or fp16 activations | tight: the cheapest mistakes move the text's loss by less than a hundredth of a nat |
//! | the file's | what the shards cost altogether | per quantization |
//!
//! `docs/gates.md` has the figures that the default limits stand on.

mod measure;
pub mod reference;
mod render;
mod report;
mod text;
mod thresholds;

#[cfg(test)]
mod edited;
#[cfg(test)]
mod tests;

use half::f16;

pub use measure::{TextFigures, TokenFigures, Worst};
pub use reference::{Reference, ReferenceError, Stored};
pub use report::{
    Bound, Comparison, Failure, GoldenCheck, GoldenReport, Measure, SCHEMA, Side, TextReport, Weights,
};
pub use text::{DEFAULT_TEXT, DEFAULT_TOKENS, Text, TextSource};
pub use thresholds::{GoldenLimits, GoldenOverrides, GoldenThresholds};

/// Why a [`Teacher`] could not run.
pub type TeacherError = Box<dyn std::error::Error + Send + Sync>;

/// The shards of a whole model, run over a given text.
pub trait Teacher {
    /// Runs `tokens` from position 0, whatever it would have chosen itself, and gives the logits `[vocab]` at every position, in
    /// any order: those at position `i` are about the token that follows `tokens[i]`.
    fn logits(
        &mut self,
        tokens: &[u32],
        on_logits: &mut dyn FnMut(usize, &[f16]),
    ) -> Result<(), TeacherError>;

    /// Name of the device that runs them.
    fn device(&self) -> &str;
}

/// Why the gate could not be run. Shards that fail the gate are not an error but a report.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// There is no reference to compare with.
    #[error("golden gate: {0}")]
    Reference(#[from] ReferenceError),
    /// The shards could not be run.
    #[error("golden gate: running the shards on {device}: {source}")]
    Shards {
        /// The device.
        device: String,
        /// What is wrong.
        source: TeacherError,
    },
}

/// Runs `text` through both sides and holds the logits of the shards, whose weights are stored as `stored` says, to their limits.
/// `on_layer` is told of the reference's progress over both of its runs: layers done, and how many there are.
///
/// The shards come first, because they are fast and may refuse; their logits are kept, `[tokens, vocab]` in fp16.
pub fn check(
    reference: &Reference<'_>,
    stored: &Stored,
    text: &Text,
    shards: &mut dyn Teacher,
    thresholds: &GoldenThresholds,
    mut on_layer: impl FnMut(u32, u32),
) -> Result<GoldenReport, GoldenError> {
    let (tokens, quantization) = (text.tokens(), stored.quantization);
    reference.check(tokens)?;
    let device = shards.device().to_owned();
    let rows =
        taught(shards, tokens).map_err(|source| GoldenError::Shards { device: device.clone(), source })?;

    let mut failures = unusable(&rows, reference.vocab());
    let mut comparisons = Vec::new();
    if failures.is_empty() {
        let runs =
            [(Weights::Stored, reference.stored_as(stored.clone())), (Weights::File, reference.clone())];
        for (run, (weights, reference)) in (0..).zip(runs) {
            let told = |done, layers| on_layer(run * layers + done, 2 * layers);
            let per_token = compare(&reference, tokens, &rows, &mut failures, told)?;
            let limits = thresholds.limits(weights, quantization, &device);
            comparisons.push(Comparison::new(weights, per_token, limits));
        }
        failures.extend(comparisons.iter().flat_map(Comparison::failures));
    }
    Ok(GoldenReport {
        schema: SCHEMA,
        quantization,
        text: TextReport { tokens: tokens.len(), source: text.source().clone() },
        comparisons,
        pass: failures.is_empty(),
        reason: render::reason(&device, &failures),
        failures,
        device,
    })
}

/// The shards' logits at every position that they gave any for.
fn taught(shards: &mut dyn Teacher, tokens: &[u32]) -> Result<Vec<Option<Vec<f16>>>, TeacherError> {
    let mut rows = vec![None; tokens.len()];
    let mut keep = |position: usize, row: &[f16]| {
        if let Some(place) = rows.get_mut(position) {
            *place = Some(row.to_vec());
        }
    };
    shards.logits(tokens, &mut keep)?;
    Ok(rows)
}

/// Runs the reference and measures every position. What is not finite goes to `failures`, once.
fn compare(
    reference: &Reference<'_>,
    tokens: &[u32],
    rows: &[Option<Vec<f16>>],
    failures: &mut Vec<Failure>,
    on_layer: impl FnMut(u32, u32),
) -> Result<Vec<TokenFigures>, ReferenceError> {
    let mut per_token = Vec::with_capacity(tokens.len());
    reference.forward(tokens, on_layer, |position, expected| {
        let found = rows.get(position).and_then(Option::as_deref).unwrap_or_default();
        let broken = [
            (Side::Reference, expected.iter().position(|logit| !logit.is_finite())),
            (Side::Shards, found.iter().position(|logit| !logit.is_finite())),
        ];
        for (side, logit) in broken {
            let failure = logit.map(|logit| Failure::NotFinite { token: position, side, logit });
            failures.extend(failure.filter(|failure| !failures.contains(failure)));
        }
        per_token.push(measure::compare(expected, found, tokens.get(position + 1).copied()));
    })?;
    Ok(per_token)
}

/// Rows that cannot be compared at all.
fn unusable(rows: &[Option<Vec<f16>>], vocab: usize) -> Vec<Failure> {
    let fault = |(token, row): (usize, &Option<Vec<f16>>)| match row {
        None => Some(Failure::Missing { token }),
        Some(row) if row.len() != vocab => Some(Failure::Length { token, expected: vocab, found: row.len() }),
        Some(_) => None,
    };
    rows.iter().enumerate().filter_map(fault).collect()
}
