//! What a generation took.

use std::time::Duration;

/// Counts and times of one generation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Statistics {
    /// Passes that read the prompt.
    pub prefill_passes: usize,
    /// Passes after the prompt: `plain_passes + drafted_passes`.
    pub passes: usize,
    /// Of those, passes over one token.
    pub plain_passes: usize,
    /// Of those, passes that verified a draft.
    pub drafted_passes: usize,
    /// Draft tokens verified.
    pub proposed: usize,
    /// Draft tokens that were the model's own choice.
    pub accepted: usize,
    /// Tokens handed out.
    pub tokens: usize,
    /// From the start to the first token.
    pub time_to_first_token: Duration,
    /// From the first token to the end.
    pub decode: Duration,
    /// All plain passes together.
    pub plain: Duration,
    /// All drafted passes together.
    pub drafted: Duration,
}

impl Statistics {
    /// Tokens that a pass brought on average, the prompt's first one excepted: 1 without drafts. None without passes.
    pub fn tokens_per_pass(&self) -> Option<f64> {
        (self.passes > 0).then(|| 1.0 + self.accepted as f64 / self.passes as f64)
    }

    /// Cost of a drafted pass over that of a plain one, c, as measured; none without both.
    pub fn cost(&self) -> Option<f64> {
        let mean = |total: Duration, passes: usize| total.as_secs_f64() / passes as f64;
        let plain = mean(self.plain, self.plain_passes);
        let measured = self.plain_passes > 0 && self.drafted_passes > 0 && plain > 0.0;
        measured.then(|| mean(self.drafted, self.drafted_passes) / plain)
    }

    /// Tokens a second after the first. None where no time passed.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let seconds = self.decode.as_secs_f64();
        (seconds > 0.0).then(|| self.tokens.saturating_sub(1) as f64 / seconds)
    }
}
