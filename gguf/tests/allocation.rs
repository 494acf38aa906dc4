//! Memory: never on a claim, and none at all to dequantize.
#![allow(unsafe_code)] // an allocator that counts can only be written so

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use anepipe_gguf::{Gguf, TensorType};
use anepipe_testkit::{GgufWriter, SplitMix64, Value, ValueKind};
use half::f16;

thread_local! {
    /// Bytes this thread has asked for, ever, freed or not.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

// SAFETY: every call goes to `System` unchanged, so its guarantees are `System`'s; counting touches only a thread-local
// integer that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.with(|asked| asked.set(asked.get() + layout.size()));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise about `pointer` and `layout` is passed on; both came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` gives, and the bytes it asked for.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ASKED.get();
    let result = work();
    (result, ASKED.get() - before)
}

#[test]
fn the_allocator_counts() {
    let (buffer, asked) = measured(|| vec![0_u8; 1000]);
    assert!(asked >= buffer.len());
}

#[test]
fn a_claim_costs_no_memory() {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let head = |tensors: u64, keys: u64| {
        [&b"GGUF\x03\0\0\0"[..], &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
    };
    let key = |kind: u32| [head(0, 1), string("k"), kind.to_le_bytes().to_vec()].concat();
    let claims = [1_u64 << 60, 1 << 33, u64::MAX].into_iter().flat_map(|huge| {
        let claim = huge.to_le_bytes().to_vec();
        let array = |element: u32| [key(9), element.to_le_bytes().to_vec(), claim.clone()].concat();
        let tensor = |dims: &[u64]| {
            let dims = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect::<Vec<_>>();
            [head(1, 0), string("t"), ((dims.len() / 8) as u32).to_le_bytes().to_vec(), dims, vec![0; 12]]
                .concat()
        };
        let mut files = vec![head(huge, 0), head(0, huge), [key(8), claim.clone()].concat()];
        files.extend([[head(0, 1), claim.clone()].concat(), [head(1, 0), claim.clone()].concat()]);
        files.extend((0..13).map(array));
        files.extend([tensor(&[huge]), tensor(&[1, huge]), tensor(&[huge; 4])]);
        files
    });
    for mut file in claims {
        file.resize(file.len() + 256, 0); // room for a few entries, not for 2^33
        let size = file.len();
        let (outcome, asked) = measured(|| Gguf::from_bytes("claim.gguf", file));
        assert!(outcome.is_err());
        assert!(asked < 8 * size, "{asked} bytes were asked for to refuse a file of {size}: {outcome:?}");
    }
}

#[test]
fn a_vocabulary_costs_little_more_than_its_text() {
    let tokens: Vec<String> = (0..20_000).map(|i| format!("token {i}")).collect();
    let text: usize = tokens.iter().map(String::len).sum();
    let file = GgufWriter::new().meta("tokenizer.ggml.tokens", tokens).to_bytes();
    let (model, asked) = measured(|| Gguf::from_bytes("vocabulary.gguf", file).unwrap());
    assert_eq!(model.metadata().strings("tokenizer.ggml.tokens").unwrap().len(), 20_000);
    // Text and ends grow by doubling: what is asked for in all is at most twice what is kept, which is at most twice
    // what is used.
    assert!(asked < 4 * (text + 8 * 20_000) + 4096, "{asked} bytes for {text} bytes of text");
}

#[test]
fn the_costliest_entries_cost_a_small_multiple_of_their_bytes() {
    let empty = Value::Array(ValueKind::U8, Vec::new());
    let arrays = GgufWriter::new().meta("k", Value::Array(ValueKind::Array, vec![empty; 10_000])).to_bytes();
    let keys = (0..10_000).fold(GgufWriter::new(), |file, i| file.meta(&format!("{i}"), 0_u8)).to_bytes();
    let tensors =
        (0..10_000).fold(GgufWriter::new(), |file, i| file.f32(&format!("{i}"), &[1], &[0.0])).to_bytes();
    for (what, file) in [("arrays", arrays), ("keys", keys), ("tensors", tensors)] {
        let size = file.len();
        let (model, asked) = measured(|| Gguf::from_bytes("costly.gguf", file));
        assert!(model.is_ok() && asked < 32 * size, "{what}: {asked} bytes were asked for to read {size}");
    }
}

#[test]
fn dequantizing_allocates_nothing() {
    for dtype in TensorType::known().filter(|dtype| dtype.can_dequantize()) {
        let columns = dtype.block_len().unwrap() * 5;
        let bytes = columns / dtype.block_len().unwrap() * dtype.block_bytes().unwrap() * 3;
        let content = SplitMix64::new(2).bytes(bytes as usize);
        let file = GgufWriter::new().tensor("t", &[columns, 3], dtype.id(), content).to_bytes();
        let model = Gguf::from_bytes("model.gguf", file).unwrap();
        let tensor = model.tensor("t").unwrap();
        let (mut wide, mut narrow) = (vec![0.0; columns as usize], vec![f16::ZERO; columns as usize]);
        let ((), asked) = measured(|| {
            for row in 0..3 {
                tensor.dequantize_rows_f32(row..row + 1, &mut wide).unwrap();
                tensor.dequantize_rows_f16(row..row + 1, &mut narrow).unwrap();
            }
        });
        assert_eq!(asked, 0, "{dtype}");
    }
}
