//! Threads that stay awake between kernels.
//!
//! A pass is hundreds of kernels, most of them shorter than it takes to wake a thread. So whoever has worked on one goes on looking
//! for the next for a while, and only then sleeps. Work is pieces, of which each thread has a run of its own to begin with, as memory
//! likes to be read one piece after the next; who is done with it helps with the others'. The caller takes part, and whoever finds the
//! pool busy (another session, or a piece that shares work itself) does its work alone. The threads of a pool run when it is made, and
//! nothing is allocated from then on.
//!
//! A worker that the system is keeping from running when a job comes is not waited for: it has not joined, and when the job is
//! closed it cannot any more. One that has joined is, first awake, then asleep, so that it gets the core it needs.
#![allow(unsafe_code)] // a job borrows what its caller owns; see `Job`

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker looks for the next job before it sleeps: longer than what lies between two kernels of a pass.
const LOOK: Duration = Duration::from_micros(150);

/// How long the caller looks at workers that are not done before it sleeps.
const WAIT: Duration = Duration::from_micros(60);

/// Turns of a loop between two looks at the clock.
const TURNS: u32 = 64;

/// A caller's threads: itself and some workers.
pub(in crate::portable) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What workers and callers share.
struct Shared {
    state: AtomicU64,
    /// Whether a caller has the pool.
    busy: AtomicBool,
    /// Whether the pool is being dropped.
    ended: AtomicBool,
    job: UnsafeCell<Job>,
    /// One for each thread, the caller's first.
    runs: Vec<Run>,
    /// Workers that sleep, or are about to.
    asleep: AtomicUsize,
    /// What a worker panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Guards nothing but going to sleep.
    gate: Mutex<()>,
    /// Workers sleep here until there is a job.
    jobs: Condvar,
    /// The caller sleeps here until the workers are done.
    done: Condvar,
}

/// Pieces of a job that one thread begins with; those of the others follow, in the order of threads.
#[repr(align(64))] // so that threads at work on their own do not wait for each other's caches
struct Run {
    /// The next piece that nobody has taken.
    next: AtomicUsize,
}

/// The low half of [`Shared::state`] is how many workers are in the job, and these flags; the high half is the job's number.
const MEMBERS: u64 = 0xffff;
/// Workers may join.
const OPEN: u64 = 1 << 16;
/// The caller sleeps.
const WAITING: u64 = 1 << 17;
const NUMBER: u32 = 32;

/// Work in pieces, called with the number of each.
///
/// The reference's lifetime is that of the call to [`Pool::share`] that made it, whatever the type says. It is read only by workers
/// that have joined, and the call does not end, by return or by panic, before all of these have left.
#[derive(Clone, Copy)]
struct Job {
    work: &'static (dyn Fn(usize) + Sync),
    pieces: usize,
}

// SAFETY: all fields but `job` are `Sync` by themselves. `job` is written by the caller that holds `busy`, while no worker is in a job
// and none can join (`OPEN` is not set); it is read by workers that have joined, which happens after the write (they acquire the `state`
// that the caller released) and before the next (the caller acquires the `state` that they released when they left).
unsafe impl Sync for Shared {}
// SAFETY: a `Job` refers to something `Sync`, so it may be used from any thread; everything else is `Send` by itself.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `count` threads, the caller's included.
    pub(super) fn new(count: usize) -> std::io::Result<Self> {
        let count = count.clamp(1, MEMBERS as usize);
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            job: UnsafeCell::new(Job { work: &|_| {}, pieces: 0 }),
            runs: (0..count).map(|_| Run { next: AtomicUsize::new(0) }).collect(),
            asleep: AtomicUsize::new(0),
            panic: Mutex::new(None),
            gate: Mutex::new(()),
            jobs: Condvar::new(),
            done: Condvar::new(),
        });
        // Dropped on an error, which ends the threads that have been started.
        let mut pool = Self { shared, workers: Vec::new() };
        let (starting, started) = mpsc::channel::<()>();
        for index in 1..count {
            let (shared, starting) = (Arc::clone(&pool.shared), starting.clone());
            let thread = std::thread::Builder::new().name(format!("anepipe-{index}"));
            pool.workers.push(thread.spawn(move || {
                drop(starting);
                shared.serve(index);
            })?);
        }
        // A thread allocates while it starts, which the system may put off for as long as it likes. Nothing is sent: the channel
        // closes when the last one has started.
        drop(starting);
        let _ = started.recv();
        Ok(pool)
    }

    /// Threads, the caller's included.
    pub(super) fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with every number below `pieces`, each once, on all threads; on the caller's alone if the pool is busy. Panics if
    /// `work` does, once no thread uses it any more.
    pub(super) fn share(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        let alone = pieces < 2 || self.workers.is_empty();
        if alone || shared.busy.swap(true, Ordering::Acquire) {
            (0..pieces).for_each(work);
            return;
        }
        let turn = Turn(shared);
        *lock(&shared.panic) = None;
        // SAFETY: only the lifetime changes. `turn` closes the job and waits for its workers when it is dropped, which is before the
        // reference that `work` was made from ends, also when a piece panics.
        let work =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work) };
        let job = Job { work, pieces };
        // SAFETY: this caller holds `busy`, and the job before is closed and left: nobody else reads or writes it.
        unsafe { *shared.job.get() = job };
        shared.open(pieces);
        shared.take(job, 0);
        drop(turn);
        let panic = lock(&shared.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // A worker catches what pieces panic with; there is nothing that it could report here.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.count())
    }
}

/// A caller's use of the pool; ends it in any case.
struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Shared {
    /// Lets workers join the job.
    fn open(&self, pieces: usize) {
        for (index, run) in self.runs.iter().enumerate() {
            run.next.store(self.begin(index, pieces), Ordering::Relaxed);
        }
        let number = (self.state.load(Ordering::Relaxed) >> NUMBER).wrapping_add(1);
        // Sequentially consistent with the worker's part in `sleep`: one of the two sees what the other did.
        self.state.store(number << NUMBER | OPEN, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        // Whoever is about to sleep holds the gate until it does.
        drop(lock(&self.gate));
        self.jobs.notify_all();
    }

    /// The piece that run number `index` begins with.
    fn begin(&self, index: usize, pieces: usize) -> usize {
        // Neither overflows nor leaves a run with more than one piece above another's.
        let (each, more) = (pieces / self.runs.len(), pieces % self.runs.len());
        index * each + index.min(more)
    }

    /// Works on pieces until none is left, those of run number `own` first.
    fn take(&self, job: Job, own: usize) {
        for index in (own..self.runs.len()).chain(0..own) {
            let end = self.begin(index + 1, job.pieces);
            loop {
                let piece = self.runs[index].next.fetch_add(1, Ordering::Relaxed);
                if piece >= end {
                    break;
                }
                (job.work)(piece);
            }
        }
    }

    /// Leaves whatever nobody has taken.
    fn leave(&self) {
        for run in &self.runs {
            run.next.store(usize::MAX / 2, Ordering::Relaxed);
        }
    }

    /// Lets no worker join any more, and waits until those who have are gone.
    fn close(&self) {
        let left = |state: u64| state & MEMBERS == 0;
        // A caller that panicked leaves pieces; workers need not do them.
        self.leave();
        if left(self.state.fetch_and(!OPEN, Ordering::AcqRel)) {
            return;
        }
        if look(WAIT, || left(self.state.load(Ordering::Acquire)).then_some(())).is_some() {
            return;
        }
        let mut gate = lock(&self.gate);
        let mut state = self.state.fetch_or(WAITING, Ordering::AcqRel);
        while !left(state) {
            gate = self.done.wait(gate).unwrap_or_else(PoisonError::into_inner);
            state = self.state.load(Ordering::Acquire);
        }
    }

    /// The life of a worker.
    fn serve(&self, index: usize) {
        let mut latest = 0;
        while let Some(state) = self.find(latest) {
            latest = state >> NUMBER;
            if !self.join(state) {
                continue;
            }
            // SAFETY: this worker has joined, so the job's caller waits for it; see `Sync` above.
            let job = unsafe { *self.job.get() };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take(job, index))) {
                *lock(&self.panic) = Some(panic);
                self.leave();
            }
            let before = self.state.fetch_sub(1, Ordering::AcqRel);
            if before & WAITING != 0 && before & MEMBERS == 1 {
                drop(lock(&self.gate));
                self.done.notify_all();
            }
        }
    }

    /// The state of an open job that is not number `latest`; none once the pool is being dropped.
    fn find(&self, latest: u64) -> Option<u64> {
        let open = || {
            let state = self.state.load(Ordering::SeqCst);
            let found = state & OPEN != 0 && state >> NUMBER != latest;
            match (self.ended.load(Ordering::SeqCst), found) {
                (true, _) => Some(None),
                (false, true) => Some(Some(state)),
                (false, false) => None,
            }
        };
        if let Some(found) = look(LOOK, open) {
            return found;
        }
        let mut gate = lock(&self.gate);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        let found = loop {
            if let Some(found) = open() {
                break found;
            }
            gate = self.jobs.wait(gate).unwrap_or_else(PoisonError::into_inner);
        };
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        found
    }

    /// Joins the job that `state` is of, if it is still open.
    fn join(&self, mut state: u64) -> bool {
        let number = state >> NUMBER;
        while state & OPEN != 0 && state >> NUMBER == number {
            match self.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(other) => state = other,
            }
        }
        false
    }
}

/// Looks until there is something to `see`, at most for `time`.
fn look<T>(time: Duration, mut see: impl FnMut() -> Option<T>) -> Option<T> {
    let mut begun = None;
    loop {
        for _ in 0..TURNS {
            if let Some(seen) = see() {
                return Some(seen);
            }
            std::hint::spin_loop();
        }
        if begun.get_or_insert_with(Instant::now).elapsed() > time {
            return None;
        }
    }
}

/// A panic elsewhere is told where it happened.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each piece is worked on.
    fn counts(pool: &Pool, pieces: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
        pool.share(pieces, &|piece| {
            counts[piece].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_piece_of_many_tiny_jobs_is_done_once_and_seen_by_the_caller() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads).unwrap();
            assert_eq!(pool.count(), threads);
            for job in 0..3000 {
                let pieces = job % 7;
                assert_eq!(counts(&pool, pieces), vec![1; pieces]);
            }
        }
    }

    #[test]
    fn threads_begin_with_runs_of_their_own_and_then_help() {
        let pool = Pool::new(2).unwrap();
        let (here, taken) = (std::thread::current().id(), Mutex::new([Vec::new(), Vec::new()]));
        // The first pieces of both threads wait for each other.
        let barrier = std::sync::Barrier::new(2);
        pool.share(20, &|piece| {
            lock(&taken)[usize::from(std::thread::current().id() != here)].push(piece);
            if piece % 10 == 0 {
                barrier.wait();
            }
        });
        let taken = taken.into_inner().unwrap();
        for (run, taken) in [0..10, 10..20].iter().zip(&taken) {
            assert_eq!(taken[0], run.start);
            let own = taken.iter().take_while(|piece| run.contains(piece)).count();
            assert!(taken[..own].is_sorted() && taken[own..].is_sorted(), "{taken:?}");
            assert!(taken[own..].iter().all(|piece| !run.contains(piece)), "{taken:?}");
        }
        assert_eq!(taken.iter().flatten().count(), 20);
    }

    #[test]
    fn workers_that_sleep_are_woken() {
        let pool = Pool::new(3).unwrap();
        for _ in 0..5 {
            while pool.shared.asleep.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
            // Pieces that wait for each other can only be done by three threads.
            let barrier = std::sync::Barrier::new(3);
            pool.share(3, &|_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn a_piece_that_shares_work_itself_does_it_alone() {
        let pool = Pool::new(3).unwrap();
        let sum = AtomicUsize::new(0);
        pool.share(6, &|outer| {
            let here = std::thread::current().id();
            pool.share(5, &|inner| {
                assert_eq!(std::thread::current().id(), here);
                sum.fetch_add(10 * outer + inner, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 5 * 150 + 6 * 10);
    }

    #[test]
    fn several_callers_at_once_all_get_their_work_done() {
        let pool = Pool::new(4).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| (0..500).for_each(|_| assert_eq!(counts(&pool, 9), vec![1; 9])));
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3).unwrap();
        let here = std::thread::current().id();
        for on_the_callers_thread in [true, false] {
            let entered = AtomicUsize::new(0);
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.share(3, &|_| {
                    entered.fetch_add(1, Ordering::SeqCst);
                    // All three threads have a piece before one fails.
                    while entered.load(Ordering::SeqCst) < 3 {
                        std::thread::yield_now();
                    }
                    assert!((std::thread::current().id() == here) != on_the_callers_thread, "a piece fails");
                });
            }));
            let panic = caught.unwrap_err();
            let message = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap();
            assert!(message.contains("a piece fails"), "{message}");
            assert_eq!(counts(&pool, 5), [1; 5]);
        }
    }

    #[test]
    fn a_dropped_pool_leaves_no_thread() {
        for asleep in [false, true] {
            let pool = Pool::new(4).unwrap();
            let shared = Arc::downgrade(&pool.shared);
            counts(&pool, 8);
            while asleep && pool.shared.asleep.load(Ordering::SeqCst) < 3 {
                std::thread::yield_now();
            }
            drop(pool);
            assert_eq!(shared.strong_count(), 0, "a thread still holds what they share");
        }
    }
}
