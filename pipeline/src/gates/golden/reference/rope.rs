//! Rotary position embedding, from its definition.

use super::columns::Columns;
use super::numbers::{Architecture, RopeNumbers};

/// Cosines and sines of one text: `[dim / 2, tokens]` each, multiplied by `attn_factor`.
pub(super) struct Rotation {
    cos: Columns,
    sin: Columns,
    architecture: Architecture,
}

impl Rotation {
    /// Angles of positions 0 to `tokens − 1`, in f64: position · base^(−2i / dim) / divisor.
    pub(super) fn new(rope: &RopeNumbers, architecture: Architecture, tokens: usize) -> Self {
        let half = (rope.dim / 2) as usize;
        let (mut cos, mut sin) = (Columns::zeros(half, tokens), Columns::zeros(half, tokens));
        for pair in 0..half {
            let divisor = rope
                .divisors
                .as_ref()
                .and_then(|all| all.get(pair))
                .map_or(1.0, |&divisor| f64::from(divisor));
            let frequency = libm::pow(rope.base, -2.0 * pair as f64 / rope.dim as f64) / divisor;
            for (position, (cos, sin)) in
                cos.channel_mut(pair).iter_mut().zip(sin.channel_mut(pair)).enumerate()
            {
                let angle = position as f64 * frequency;
                *cos = (libm::cos(angle) * rope.attn_factor) as f32;
                *sin = (libm::sin(angle) * rope.attn_factor) as f32;
            }
        }
        Self { cos, sin, architecture }
    }

    /// Turns one head `[head_dim, tokens]` in place. Dims beyond the rotary ones stay as they are.
    pub(super) fn turn(&self, head: &mut [f32]) {
        let (half, stride) = (self.cos.channels(), self.cos.stride());
        for pair in 0..half {
            let (a, b) = match self.architecture {
                Architecture::Phi3 => (pair, pair + half),
                Architecture::Llama => (2 * pair, 2 * pair + 1),
            };
            let Some((before, after)) = head.split_at_mut_checked(b * stride) else { continue };
            let (first, second) = (before.iter_mut().skip(a * stride), after.iter_mut());
            let (cos, sin) = (self.cos.part(pair..pair + 1), self.sin.part(pair..pair + 1));
            for (((x, y), cos), sin) in first.zip(second).zip(cos).zip(sin) {
                (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
            }
        }
    }
}
