//! Damaged files: tens of thousands of them, and never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anepipe_gguf::{Gguf, TensorType};
use anepipe_testkit::{GgufWriter, SplitMix64, Value, ValueKind};
use half::f16;

use crate::fixture;

const MUTANTS: u64 = 20_000;

/// Small valid files that have everything: every value type, every tensor type with a kernel, both versions.
fn parents() -> Vec<Vec<u8>> {
    let mut random = SplitMix64::new(5);
    let mut types = GgufWriter::new().version(2).meta("general.architecture", "phi3");
    for dtype in TensorType::known().filter(|dtype| dtype.can_dequantize()) {
        let (len, bytes) = (dtype.block_len().unwrap(), dtype.block_bytes().unwrap());
        types = types.tensor(&dtype.to_string(), &[len, 2], dtype.id(), random.bytes(2 * bytes as usize));
    }
    let small = GgufWriter::new()
        .alignment(64)
        .meta("list", vec![1_u32, 2, 3])
        .meta("text", vec!["a".to_owned(), String::new(), "Ġb".to_owned()])
        .meta("nested", Value::Array(ValueKind::Array, vec![vec![true].into(), vec![1.5_f64].into()]))
        .f32("a", &[2, 3], &[1.0; 6])
        .f32("b", &[5], &[f32::NAN; 5]);
    let values = std::fs::read(fixture::path("values.gguf")).unwrap();
    vec![small.to_bytes(), types.to_bytes(), values]
}

/// Numbers that lengths and counts are replaced by.
const LENGTHS: [u64; 12] =
    [0, 1, 2, 31, 255, 1 << 16, 1 << 31, u32::MAX as u64, 1 << 60, 1 << 63, u64::MAX - 31, u64::MAX];

/// Damages a file in one to four ways.
fn mutate(parents: &[Vec<u8>], random: &mut SplitMix64) -> Vec<u8> {
    let pick = |random: &mut SplitMix64, len: usize| random.below(len as u64) as usize;
    let mut bytes = parents[pick(random, parents.len())].clone();
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            break;
        }
        // Half of the damage goes to the first bytes, where the structure is.
        let reach = if random.below(2) == 0 { bytes.len().min(256) } else { bytes.len() };
        let at = pick(random, reach);
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next_u64() as u8,
            2 => bytes.truncate(at),
            3 | 4 => {
                // A length or a type, wherever one might stand.
                let length = LENGTHS[pick(random, LENGTHS.len())].wrapping_add(random.below(3)).to_le_bytes();
                let width = if random.below(2) == 0 { 4 } else { 8 };
                for (byte, new) in bytes[at..].iter_mut().zip(&length[..width]) {
                    *byte = *new;
                }
            }
            5 => {
                // A piece of another file, over what is there or between it.
                let other = &parents[pick(random, parents.len())];
                let from = pick(random, other.len());
                let piece = &other[from..(from + pick(random, 64)).min(other.len())];
                let until = if random.below(2) == 0 { at } else { (at + piece.len()).min(bytes.len()) };
                bytes.splice(at..until, piece.iter().copied());
            }
            _ => {
                let until = (at + pick(random, 64)).min(bytes.len());
                bytes.drain(at..until);
            }
        }
    }
    bytes
}

/// Uses all of a model: every key, every tensor's bytes and weights.
fn use_all(model: &Gguf) -> usize {
    let keys = model.metadata().iter().map(|(key, _)| model.metadata().u32(key).is_ok());
    let mut used = keys.filter(|ok| *ok).count();
    for tensor in model.tensors() {
        assert_eq!(tensor.len(), tensor.dims().iter().product::<u64>());
        if !tensor.dtype().can_dequantize() {
            continue;
        }
        // What parses lies in a file of a few thousand bytes, so its weights fit in memory.
        let len = tensor.len() as usize;
        let (mut wide, mut narrow) = (vec![0.0; len], vec![f16::ZERO; len]);
        tensor.dequantize_rows_f32(0..tensor.rows(), &mut wide).unwrap();
        tensor.dequantize_rows_f16(0..tensor.rows(), &mut narrow).unwrap();
        used += len;
    }
    used
}

#[test]
fn mutated_files_are_read_or_refused() {
    let parents = parents();
    let (mut read, mut weights) = (0, 0);
    for seed in 0..MUTANTS {
        let bytes = mutate(&parents, &mut SplitMix64::new(seed));
        let outcome = catch_unwind(AssertUnwindSafe(|| match fixture::read(bytes) {
            Ok(model) => Some(use_all(&model)),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                None
            }
        }));
        match outcome {
            Ok(Some(used)) => (read, weights) = (read + 1, weights + used),
            Ok(None) => {}
            Err(panic) => {
                panic!("mutant {seed} panicked: {:?}", panic.downcast_ref::<String>());
            }
        }
    }
    // The damage must be neither so great that nothing parses nor so small that all does.
    assert!((MUTANTS / 10..MUTANTS * 9 / 10).contains(&read), "{read} of {MUTANTS} mutants were read");
    assert!(weights > 0);
}
