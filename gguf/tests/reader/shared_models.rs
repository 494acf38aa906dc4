//! Files from elsewhere, if they are at hand: models made with gguf-py, vocabularies made with llama.cpp's converter.

use std::path::PathBuf;

use anepipe_gguf::{Gguf, TensorType};

use crate::fixture;

/// The file `name` under `$ANEPIPE_SHARED` (`../shared` beside the workspace without it), or `None` and a line that
/// says so.
#[allow(clippy::print_stderr)] // a skipped test says that it is skipped
fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ANEPIPE_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = root.join(name);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: {} absent", path.display());
    None
}

#[test]
fn a_small_phi3_model_is_read() {
    let Some(path) = shared("models/stories260K-phi3-q8_0.gguf") else { return };
    let model = Gguf::open(&path).unwrap();
    let metadata = model.metadata();
    assert_eq!(metadata.string("general.architecture").unwrap(), "phi3");
    assert_eq!(metadata.u32("phi3.block_count").unwrap(), 5);
    assert_eq!(metadata.strings("tokenizer.ggml.tokens").unwrap().len(), 512);
    assert_eq!(metadata.read::<&[f32]>("tokenizer.ggml.scores").unwrap().len(), 512);
    assert_eq!(model.tensors().len(), 32);
    let qkv = model.tensor("blk.0.attn_qkv.weight").unwrap();
    assert_eq!((qkv.dtype(), qkv.dims()), (TensorType::Q8_0, [64, 128].as_slice()));
}

#[test]
fn q8_0_is_within_half_a_step_of_the_weights_it_was_made_from() {
    let (Some(f32), Some(q8_0)) =
        (shared("models/stories260K-phi3-f32.gguf"), shared("models/stories260K-phi3-q8_0.gguf"))
    else {
        return;
    };
    let (exact, rounded) = (Gguf::open(&f32).unwrap(), Gguf::open(&q8_0).unwrap());
    for tensor in rounded.tensors().filter(|tensor| tensor.dtype() == TensorType::Q8_0) {
        let weights = fixture::all_f32(&exact.tensor(tensor.name()).unwrap());
        for (block, rounded) in weights.chunks(32).zip(fixture::all_f32(&tensor).chunks(32)) {
            let step = block.iter().fold(0.0_f32, |max, w| max.max(w.abs())) / 127.0;
            for (w, r) in block.iter().zip(rounded) {
                // Half a step, and what the rounding of the scale to f16 adds: 127 × 2^-11 of a step at most.
                assert!((w - r).abs() <= step * 0.563, "{} {w} {r}", tensor.name());
            }
        }
    }
}

#[test]
fn a_vocabulary_file_without_tensors_is_read() {
    let Some(path) = shared("tokenizers/ggml-vocab-gpt-2.gguf") else { return };
    let model = Gguf::open(&path).unwrap();
    assert_eq!(model.tensors().len(), 0);
    let tokens = model.metadata().strings("tokenizer.ggml.tokens").unwrap();
    assert_eq!(
        (tokens.len(), tokens.get(0), tokens.iter().last()),
        (50257, Some("!"), Some("<|endoftext|>"))
    );
    assert_eq!(model.metadata().strings("tokenizer.ggml.merges").unwrap().get(0), Some("Ġ t"));
}
