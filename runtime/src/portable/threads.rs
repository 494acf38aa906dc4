//! The threads that share a kernel's work.

use std::num::NonZeroUsize;
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::RuntimeError;

/// A set of threads; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Threads {
    /// `None`: the process's common pool, one thread a core.
    pool: Option<Arc<rayon::ThreadPool>>,
}

impl Threads {
    /// One thread a core.
    pub(super) fn all() -> Self {
        Self { pool: None }
    }

    /// `count` threads.
    pub(super) fn new(count: NonZeroUsize) -> Result<Self, RuntimeError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count.get())
            .thread_name(|index| format!("anepipe-{index}"))
            .build()
            .map_err(|error| {
                RuntimeError::Mismatch(format!("starting {count} threads: {error}; ask for fewer"))
            })?;
        Ok(Self { pool: Some(Arc::new(pool)) })
    }

    /// Runs `work` on one of the threads; what it does through [`chunks`] is shared with the others.
    pub(super) fn run(&self, work: impl FnOnce() + Send) {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

/// How many threads share what the caller does.
pub(super) fn count() -> usize {
    rayon::current_num_threads()
}

/// Calls `work(index, chunk)` for each `length` elements of `out`, the last chunk possibly shorter, on all threads.
pub(super) fn chunks<T: Send>(out: &mut [T], length: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    if count() == 1 || out.len() <= length {
        out.chunks_mut(length.max(1)).enumerate().for_each(|(index, chunk)| work(index, chunk));
    } else {
        out.par_chunks_mut(length.max(1)).enumerate().for_each(|(index, chunk)| work(index, chunk));
    }
}

/// Calls `work(index, chunk, scratch)` as [`chunks`] does, each chunk with a scratch element of its own.
pub(super) fn chunks_with<T: Send, S: Send>(
    out: &mut [T],
    length: usize,
    scratch: &mut [S],
    work: impl Fn(usize, &mut [T], &mut S) + Sync,
) {
    if count() == 1 || out.len() <= length {
        let chunks = out.chunks_mut(length.max(1)).zip(scratch).enumerate();
        chunks.for_each(|(index, (chunk, scratch))| work(index, chunk, scratch));
    } else {
        let chunks = out.par_chunks_mut(length.max(1)).zip(scratch.par_iter_mut()).enumerate();
        chunks.for_each(|(index, (chunk, scratch))| work(index, chunk, scratch));
    }
}
