//! What is left of many measurements of one thing.

use serde::Serialize;

/// Measurements of one thing, one a round.
#[derive(Debug, Clone, Default)]
pub(super) struct Series(Vec<f64>);

/// The median, the least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// Half of the measurements are at most this; of an even number, the mean of the two in the middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The most.
    pub(crate) max: f64,
}

impl Series {
    pub(super) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(super) fn extend(&mut self, values: impl IntoIterator<Item = f64>) {
        self.0.extend(values);
    }

    /// None without measurements.
    pub(super) fn figure(&self) -> Option<Figure> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let (low, high) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Figure { median: f64::midpoint(*low, *high), min, max })
    }

    /// This over `other`, round by round.
    pub(super) fn over(&self, other: &Self) -> Self {
        let ratios = self.0.iter().zip(&other.0).filter(|&(_, &below)| below > 0.0);
        Self(ratios.map(|(above, below)| above / below).collect())
    }
}

impl Figure {
    /// In another unit.
    pub(super) fn scaled(self, factor: f64) -> Self {
        Self { median: self.median * factor, min: self.min * factor, max: self.max * factor }
    }

    /// Of times: how much a second, where each took `amount`. The shortest time is the highest rate.
    pub(super) fn rate(self, amount: f64) -> Self {
        let rate = |seconds: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
        Self { median: rate(self.median), min: rate(self.max), max: rate(self.min) }
    }
}
