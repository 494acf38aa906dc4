//! The threads that share a kernel's work.
#![allow(unsafe_code)] // chunks of one slice, handed to several threads; see `Chunks`

mod pool;

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use self::pool::Pool;
use crate::error::RuntimeError;

/// A set of threads; clones share it.
#[derive(Debug, Clone)]
pub(super) enum Threads {
    /// The process's common ones, one a core.
    All,
    /// The caller's, which hands nothing over.
    Caller,
    /// Its own.
    Pool(Arc<Pool>),
}

/// One thread a core, started when first needed; none if they cannot be started, and then the caller does everything.
fn common() -> Option<&'static Pool> {
    static COMMON: OnceLock<Option<Pool>> = OnceLock::new();
    let start = || Pool::new(std::thread::available_parallelism().ok()?.get()).ok();
    COMMON.get_or_init(start).as_ref()
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
        let pool = Pool::new(count.get()).map_err(|error| {
            RuntimeError::Mismatch(format!("starting {count} threads: {error}; ask for fewer"))
        })?;
        Ok(Self::Pool(Arc::new(pool)))
    }

    fn pool(&self) -> Option<&Pool> {
        match self {
            Self::All => common(),
            Self::Caller => None,
            Self::Pool(pool) => Some(pool),
        }
    }

    /// How many there are, the caller's included.
    pub(super) fn count(&self) -> usize {
        self.pool().map_or(1, Pool::count)
    }

    /// Calls `work(index, chunk)` for each `length` elements of `out`, the last chunk possibly shorter, on all threads.
    pub(super) fn chunks<T: Send>(
        &self,
        out: &mut [T],
        length: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let chunks = Chunks::of(out, length.max(1));
        // SAFETY: the pool calls this once with each number, and nothing else touches `out` meanwhile.
        self.each(chunks.count(), &|index| work(index, unsafe { chunks.get(index) }));
    }

    /// Calls `work(index, chunk, scratch)` as [`Threads::chunks`] does, each chunk with a scratch element of its own; chunks for
    /// which there is none are left out.
    pub(super) fn chunks_with<T: Send, S: Send>(
        &self,
        out: &mut [T],
        length: usize,
        scratch: &mut [S],
        work: impl Fn(usize, &mut [T], &mut S) + Sync,
    ) {
        let (chunks, scratches) = (Chunks::of(out, length.max(1)), Chunks::of(scratch, 1));
        self.each(chunks.count().min(scratches.count()), &|index| {
            // SAFETY: the pool calls this once with each number, and nothing else touches the two slices meanwhile.
            let (chunk, scratch) = unsafe { (chunks.get(index), scratches.get(index)) };
            if let [scratch] = scratch {
                work(index, chunk, scratch);
            }
        });
    }

    /// Calls `work` with every number below `pieces`, each once.
    fn each(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        match self.pool() {
            Some(pool) => pool.share(pieces, work),
            None => (0..pieces).for_each(work),
        }
    }
}

/// The chunks of a slice, to be given to several threads, each to one.
struct Chunks<'a, T> {
    elements: *mut T,
    total: usize,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: what is shared is a means to get at chunks, each of which goes to one thread only (see `get`); that is sending a `&mut [T]`.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    /// Chunks of `length` elements, the last one possibly shorter.
    fn of(slice: &'a mut [T], length: usize) -> Self {
        Self { elements: slice.as_mut_ptr(), total: slice.len(), length, slice: PhantomData }
    }

    fn count(&self) -> usize {
        self.total.div_ceil(self.length)
    }

    /// Chunk number `index`.
    ///
    /// # Safety
    /// No two of the slices that this gives for one number may live at the same time.
    #[allow(clippy::mut_from_ref)] // that is what it is for
    unsafe fn get(&self, index: usize) -> &mut [T] {
        let start = (index * self.length).min(self.total);
        let length = self.length.min(self.total - start);
        // SAFETY: the range lies in the slice, which is borrowed mutably for as long as `self` lives; ranges of different numbers do
        // not overlap, and the caller sees to it that each number's is used once at a time.
        unsafe { std::slice::from_raw_parts_mut(self.elements.add(start), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets() -> Vec<Threads> {
        let some = |count| Threads::new(NonZeroUsize::new(count).expect("above zero")).expect("threads");
        vec![Threads::all(), some(1), some(2), some(5)]
    }

    #[test]
    fn one_thread_is_the_callers() {
        let here = std::thread::current().id();
        let threads = Threads::new(NonZeroUsize::MIN).expect("threads");
        assert_eq!(threads.count(), 1);
        threads.chunks(&mut [0; 64], 4, |_, _| assert_eq!(std::thread::current().id(), here));
    }

    #[test]
    fn chunks_cover_a_slice_once_whatever_their_length() {
        for threads in sets() {
            for (total, length) in [(0, 4), (1, 4), (4, 4), (103, 4), (103, 1), (103, 0), (103, 200)] {
                let mut out = vec![0; total];
                threads.chunks(&mut out, length, |index, chunk| {
                    for element in chunk {
                        *element += index + 1;
                    }
                });
                let expected: Vec<_> = (0..total).map(|at| at / length.max(1) + 1).collect();
                assert_eq!(out, expected, "{threads:?} {total} {length}");
            }
        }
    }

    #[test]
    fn each_chunk_has_a_scratch_of_its_own() {
        for threads in sets() {
            let (mut out, mut scratch) = ([0; 10], [1, 2, 3, 4, 5]);
            threads.chunks_with(&mut out, 3, &mut scratch, |_, chunk, scratch| {
                chunk.fill(*scratch);
                *scratch = 0;
            });
            assert_eq!((out, scratch), ([1, 1, 1, 2, 2, 2, 3, 3, 3, 4], [0, 0, 0, 0, 5]), "{threads:?}");
        }
    }
}
