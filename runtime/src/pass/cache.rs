//! Cached rows by position, for gates that plant something in the cache and for nothing else: a decode never touches it.

use std::ops::Range;

use half::f16;

use super::error::PassError;
use super::layout::{PassLayout, shape};
use crate::device::{Port, State};
use crate::error::RuntimeError;

/// One state: `[1, heads, context, head_dim]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cache {
    name: String,
    context: usize,
    head_dim: usize,
}

impl Cache {
    pub(super) fn from_port(port: &Port, context: usize) -> Result<Self, PassError> {
        match *port.shape {
            [1, heads, rows, head_dim] if heads > 0 && head_dim > 0 && rows == context => {
                Ok(Self { name: port.name.clone(), context, head_dim })
            }
            _ => Err(shape(port, format!("[1, heads, {context}, head_dim]"))),
        }
    }
}

impl PassLayout {
    /// Lets `rewrite` change what is cached at `positions`, in every state: it gets the rows of one head after the other, a head's
    /// in order of their positions. Positions beyond the context do not exist and are passed over. A head shard has no cache:
    /// nothing happens.
    pub fn rewrite_cache(
        &self,
        state: &mut dyn State,
        positions: Range<usize>,
        mut rewrite: impl FnMut(&mut [f16]),
    ) -> Result<(), RuntimeError> {
        for cache in self.caches() {
            let [start, end] =
                [positions.start, positions.end].map(|row| row.min(cache.context) * cache.head_dim);
            state.edit(&cache.name, &mut |values| {
                for head in values.chunks_exact_mut(cache.context * cache.head_dim) {
                    rewrite(head.get_mut(start..end).unwrap_or_default());
                }
            })?;
        }
        Ok(())
    }

    /// The largest finite magnitude in the cache; 0 when it is empty.
    pub fn cache_peak(&self, state: &dyn State) -> Result<f32, RuntimeError> {
        let mut peak = 0;
        for cache in self.caches() {
            state.look(&cache.name, &mut |values| peak = peak.max(largest(values)))?;
        }
        Ok(f16::from_bits(peak).to_f32())
    }

    fn caches(&self) -> &[Cache] {
        self.attention().map_or(&[], |attention| &attention.caches)
    }
}

/// The largest finite magnitude, as bits, whose order is that of the magnitudes.
fn largest(values: &[f16]) -> u16 {
    let magnitude = |value: &f16| value.to_bits() & 0x7fff;
    values.iter().map(magnitude).map(|bits| if bits < 0x7c00 { bits } else { 0 }).max().unwrap_or(0)
}
