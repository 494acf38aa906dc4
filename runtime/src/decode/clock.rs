//! What time it is, as far as decoding cares.

use std::time::{Duration, Instant};

/// Measures how long passes take. Time decides about drafts, so it changes speed and never tokens.
pub trait Clock {
    /// Time since some moment that stays the same.
    fn now(&self) -> Duration;
}

/// The machine's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Monotonic(Instant);

impl Monotonic {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for Monotonic {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
