//! Causal attention with grouped heads, from its definition.

use rayon::prelude::*;

use super::columns::Columns;
use super::numbers::Numbers;

/// Mixes values: `q` is `[heads · head_dim, tokens]`, `k` and `v` are `[kv_heads · head_dim, tokens]`, already turned. Gives
/// `[heads · head_dim, tokens]`.
pub(super) fn attention(numbers: &Numbers, q: &Columns, k: &Columns, v: &Columns) -> Columns {
    let head_dim = numbers.head_dim as usize;
    let queries_a_key = (numbers.heads / numbers.kv_heads) as usize;
    let mut mixed = Columns::zeros(q.channels(), q.tokens());
    let stride = mixed.stride();
    let tokens = mixed.tokens();
    mixed.values_mut().par_chunks_mut(head_dim * stride).enumerate().for_each(|(head, mixed)| {
        let channels = |head: usize| head * head_dim..(head + 1) * head_dim;
        let group = head / queries_a_key;
        let one = Head {
            q: q.part(channels(head)),
            k: k.part(channels(group)),
            v: v.part(channels(group)),
            stride,
            scale: 1.0 / (head_dim as f64).sqrt(),
        };
        for token in 0..tokens {
            one.mix(token, mixed);
        }
    });
    mixed
}

/// One query head and what it looks at, `[head_dim, tokens]` each.
struct Head<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    stride: usize,
    scale: f64,
}

impl Head<'_> {
    /// What `token` takes from positions 0 to `token`, written to its column of `mixed`.
    fn mix(&self, token: usize, mixed: &mut [f32]) {
        let mut shares = vec![0.0; token + 1];
        for (q, k) in self.q.chunks_exact(self.stride).zip(self.k.chunks_exact(self.stride)) {
            let q = f64::from(q[token]);
            for (score, k) in shares.iter_mut().zip(k) {
                *score += q * f64::from(*k);
            }
        }
        let top = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for score in &mut shares {
            *score = libm::exp((*score - top) * self.scale);
        }
        let total: f64 = shares.iter().sum();
        for (v, mixed) in self.v.chunks_exact(self.stride).zip(mixed.chunks_exact_mut(self.stride)) {
            let sum: f64 = shares.iter().zip(v).map(|(share, v)| share * f64::from(*v)).sum();
            mixed[token] = (sum / total) as f32;
        }
    }
}
