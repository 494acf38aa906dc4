//! A decode step allocates nothing: pass, logits, choice and commit, plain and verifying, on the portable device with any number of
//! threads.
#![allow(unsafe_code)] // a counting allocator

mod fixture;
mod whole;

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use anepipe_runtime::decode::{Choose, Sampling};
use anepipe_runtime::portable::PortableDevice;
use anepipe_runtime::session::Session;
use whole::{load, prompt};

/// The system's allocator, counting what all threads ask of it.
struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

fn count() {
    COUNT.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every call is handed to `System` as it came, which fulfils the trait's contract; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's obligations are `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; the pointer came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.load(Ordering::Relaxed);
    work();
    COUNT.load(Ordering::Relaxed) - before
}

/// Without a harness (`harness = false`): whatever else this process did would be counted.
fn main() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1, "the counter counts");
    for threads in [1, 2, 4] {
        let device = PortableDevice::new().with_threads(NonZeroUsize::new(threads).unwrap()).unwrap();
        decode(&device, threads);
    }
}

fn decode(device: &PortableDevice, threads: usize) {
    let model = load(device, 3, &[1, 4], 4);
    let sampled = Sampling { temperature: 0.8, top_k: 10, top_p: 0.9, min_p: 0.05, seed: 1 };
    for sampling in [Sampling::GREEDY, sampled] {
        let mut choose = Choose::new(&sampling).unwrap();
        let mut session = Session::new(&model).unwrap();
        let mut step = |tokens: &[u32]| {
            session.pass(tokens).unwrap();
            for slot in 0..tokens.len() {
                let position = session.position() + slot + 1;
                choose.token(session.logits(slot).unwrap(), position).unwrap();
            }
            session.commit(1).unwrap();
        };
        // The first pass of each width sizes the device's own buffers.
        step(&[1, 2, 3, 4]);
        step(&[5]);
        for start in 0..30 {
            let tokens = prompt(start, 4);
            let used = [1, 4, 2][start as usize % 3];
            assert_eq!(
                allocations(|| step(&tokens[..used])),
                0,
                "{used} tokens at {start}, {threads} threads"
            );
        }
    }
}
