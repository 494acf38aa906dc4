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
    /// Replaces every cached value at `positions`, in every state, by what `value` makes of it. Positions beyond the context do
    /// not exist and are passed over. A head has no cache: nothing happens.
    pub fn rewrite_cache(
        &self,
        state: &mut dyn State,
        positions: Range<usize>,
        mut value: impl FnMut(f16) -> f16,
    ) -> Result<(), RuntimeError> {
        for cache in self.caches() {
            let mut values = state.read(&cache.name)?;
            let rows = values.chunks_exact_mut(cache.head_dim).enumerate();
            for (_, row) in rows.filter(|(row, _)| positions.contains(&(row % cache.context))) {
                for element in row {
                    *element = value(*element);
                }
            }
            state.write(&cache.name, &values)?;
        }
        Ok(())
    }

    /// The largest finite magnitude in the cache; 0 when it is empty.
    pub fn cache_peak(&self, state: &dyn State) -> Result<f32, RuntimeError> {
        let mut peak = 0.0_f32;
        for cache in self.caches() {
            let magnitudes = state.read(&cache.name)?.into_iter().map(|value| value.to_f32().abs());
            peak = magnitudes.filter(|magnitude| magnitude.is_finite()).fold(peak, f32::max);
        }
        Ok(peak)
    }

    fn caches(&self) -> &[Cache] {
        self.attention().map_or(&[], |attention| &attention.caches)
    }
}
