//! The threads that share a kernel's work.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::RuntimeError;

/// A set of threads; clones share it.
#[derive(Debug, Clone)]
pub(super) enum Threads {
    /// The process's common pool, one thread a core.
    All,
    /// The caller's, which hands nothing over, and so allocates nothing.
    Caller,
    /// A pool of its own.
    Pool(Arc<rayon::ThreadPool>),
}

thread_local! {
    /// Whether this thread works by itself.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Takes [`ALONE`] back, also when the work panics.
struct Company(bool);

impl Drop for Company {
    fn drop(&mut self) {
        ALONE.set(self.0);
    }
}

impl Threads {
    /// One thread a core.
    pub(super) fn all() -> Self {
        Self::All
    }

    /// `count` threads.
    pub(super) fn new(count: NonZeroUsize) -> Result<Self, RuntimeError> {
        if count == NonZeroUsize::MIN {
            return Ok(Self::Caller);
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count.get())
            .thread_name(|index| format!("anepipe-{index}"))
            .build()
            .map_err(|error| {
                RuntimeError::Mismatch(format!("starting {count} threads: {error}; ask for fewer"))
            })?;
        Ok(Self::Pool(Arc::new(pool)))
    }

    /// Runs `work` on one of the threads; what it does through [`chunks`] is shared with the others.
    pub(super) fn run(&self, work: impl FnOnce() + Send) {
        match self {
            Self::All => work(),
            Self::Caller => {
                let _company = Company(ALONE.replace(true));
                work();
            }
            Self::Pool(pool) => pool.install(work),
        }
    }
}

/// How many threads share what the caller does.
pub(super) fn count() -> usize {
    if ALONE.get() { 1 } else { rayon::current_num_threads() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_is_the_callers_and_more_are_others() {
        let here = std::thread::current().id();
        for threads in [1, 3] {
            let pool = Threads::new(NonZeroUsize::new(threads).expect("above zero")).expect("threads");
            pool.run(|| {
                assert_eq!(count(), threads);
                assert_eq!(std::thread::current().id() == here, threads == 1);
            });
        }
        assert_eq!(count(), rayon::current_num_threads(), "company is back");
    }
}
