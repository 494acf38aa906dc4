//! Which token a row of logits stands for.

use half::f16;

use super::sampler::{Sampler, Sampling, SamplingError};
use crate::portable::Isa;
use crate::portable::kernel::argmax::{self as kernel, Largest};
use crate::session::{Session, SessionError};
use crate::token::TokenId;

/// How tokens are chosen: the only place where logits become tokens, with and without drafts.
///
/// The choice is a function of the logits, of the position the token will stand at, and of the options, seed included. It
/// remembers nothing. That is what makes sampled decoding as exact as greedy: a verified token is chosen from the same logits at
/// the same position as it would be without drafts, so it is the same token.
#[derive(Debug, Clone)]
pub enum Choose {
    /// The largest logit.
    Greedy,
    /// By chance.
    Sample(Sampler),
}

impl Choose {
    /// What `sampling` asks for; a temperature of 0 is greedy.
    pub fn new(sampling: &Sampling) -> Result<Self, SamplingError> {
        let sampler = Sampler::new(sampling)?;
        Ok(if sampling.temperature == 0.0 { Self::Greedy } else { Self::Sample(sampler) })
    }

    /// The token behind token `slot` of the session's latest pass, for `position`; none if all logits are NaN.
    pub fn behind(
        &mut self,
        session: &mut Session,
        slot: usize,
        position: usize,
    ) -> Result<Option<TokenId>, SessionError> {
        match self {
            Self::Greedy => session.likeliest(slot),
            Self::Sample(sampler) => Ok(sampler.token(session.logits(slot)?, position)),
        }
    }

    /// The token for `position`, by the whole vocabulary's `logits`; none if all of them are NaN.
    pub fn token(&mut self, logits: &[f16], position: usize) -> Option<TokenId> {
        match self {
            Self::Greedy => argmax(logits),
            Self::Sample(sampler) => sampler.token(logits, position),
        }
    }
}

/// The token with the largest logit, ties to the lowest id. NaN never wins; none if there is nothing else.
pub fn argmax(logits: &[f16]) -> Option<TokenId> {
    let mut largest = [Largest::NONE];
    kernel::argmax(Isa::best(), logits, 0, &mut largest);
    largest[0].row().map(|token| token as TokenId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(logits: &[f32]) -> Option<TokenId> {
        argmax(&logits.iter().map(|&logit| f16::from_f32(logit)).collect::<Vec<_>>())
    }

    #[test]
    fn the_largest_logit_wins_and_ties_go_to_the_lowest_id() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for (logits, expected) in [
            (&[1.0, 3.0, 2.0][..], Some(1)),
            (&[2.0, 3.0, 3.0], Some(1)),
            (&[-0.0, 0.0], Some(0)),
            (&[0.0, -0.0], Some(0)),
            (&[-2.0, -1.0, -1.0], Some(1)),
            (&[nan, -inf, nan], Some(1)),
            (&[nan, 1.0, inf, -nan], Some(2)),
            (&[nan, -nan], None),
            (&[], None),
        ] {
            assert_eq!(chosen(logits), expected, "{logits:?}");
        }
    }
}
