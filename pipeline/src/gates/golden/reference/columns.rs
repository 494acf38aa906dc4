//! Activations of all tokens of a text: one column a token.

use std::ops::Range;

/// Tokens that are computed side by side.
pub(super) const LANES: usize = 16;

/// A matrix `[channels, tokens]`, each channel's row padded with zeros to whole [`LANES`].
///
/// Tokens lie next to each other, so that sums over channels run in the same order for every token and still fill a vector unit.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    values: Vec<f32>,
    tokens: usize,
}

impl Columns {
    /// Zeros.
    pub(super) fn zeros(channels: usize, tokens: usize) -> Self {
        Self { values: vec![0.0; channels * tokens.next_multiple_of(LANES)], tokens }
    }

    /// Tokens, padding not counted.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Values from one channel to the next.
    pub(super) fn stride(&self) -> usize {
        self.tokens.next_multiple_of(LANES)
    }

    pub(super) fn channels(&self) -> usize {
        self.values.len() / self.stride().max(1)
    }

    /// All values, channel after channel.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The values of some channels.
    pub(super) fn part(&self, channels: Range<usize>) -> &[f32] {
        self.values.get(channels.start * self.stride()..channels.end * self.stride()).unwrap_or_default()
    }

    pub(super) fn part_mut(&mut self, channels: Range<usize>) -> &mut [f32] {
        let stride = self.stride();
        self.values.get_mut(channels.start * stride..channels.end * stride).unwrap_or_default()
    }

    /// One channel's values, one a token.
    pub(super) fn channel_mut(&mut self, channel: usize) -> &mut [f32] {
        let stride = self.stride();
        self.values.get_mut(channel * stride..channel * stride + self.tokens).unwrap_or_default()
    }

    /// One token's values, one a channel.
    pub(super) fn column(&self, token: usize) -> impl Iterator<Item = f32> + '_ {
        self.values.iter().skip(token).step_by(self.stride().max(1)).copied()
    }

    /// The same with only the tokens of `tokens`.
    pub(super) fn of_tokens(&self, tokens: Range<usize>) -> Self {
        let mut part = Self::zeros(self.channels(), tokens.len());
        for channel in 0..self.channels() {
            let start = channel * self.stride();
            let from = self.values.get(start + tokens.start..start + tokens.end).unwrap_or_default();
            part.channel_mut(channel).copy_from_slice(from);
        }
        part
    }

    /// The same with only the channels of `channels`.
    pub(super) fn of_channels(&self, channels: Range<usize>) -> Self {
        Self { values: self.part(channels).to_vec(), tokens: self.tokens }
    }

    /// Adds `other`, of the same shape.
    pub(super) fn add(&mut self, other: &Self) {
        self.values.iter_mut().zip(&other.values).for_each(|(into, value)| *into += value);
    }
}
