//! Synthetic models hold what a phi3 model holds, and change only where they are told to.

use anepipe_gguf::{Gguf, TensorType, first_non_finite_f32};
use anepipe_testkit::{
    Encoding,
    synth::{Dimensions, Synth, SynthError, tiny},
};

fn open(model: &Synth) -> Gguf {
    Gguf::from_bytes("synth.gguf", model.writer().to_bytes()).unwrap()
}

fn tiny_model() -> Synth {
    Synth::new(Dimensions::tiny(), Encoding::Q8_0, 1).unwrap()
}

fn weights(model: &Gguf, tensor: &str) -> Vec<f32> {
    let tensor = model.tensor(tensor).unwrap();
    let mut out = vec![0.0; tensor.len() as usize];
    tensor.dequantize_rows_f32(0..tensor.rows(), &mut out).unwrap();
    out
}

/// Mean and standard deviation.
fn moments(weights: &[f32]) -> (f64, f64) {
    let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64;
    let variance = weights.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum::<f64>() / weights.len() as f64;
    (mean, variance.sqrt())
}

/// Names of tensors whose bytes differ.
fn changed(one: &Gguf, other: &Gguf) -> Vec<String> {
    let differs =
        |t: &anepipe_gguf::Tensor<'_>| other.tensor(t.name()).is_none_or(|o| o.bytes() != t.bytes());
    one.tensors().filter(differs).map(|t| t.name().to_owned()).collect()
}

#[test]
fn phi_4_mini_has_phi_4_minis_numbers() {
    let dims = Dimensions { layers: 1, vocab: 321, ..Dimensions::phi_4_mini() };
    assert_eq!(Dimensions::phi_4_mini().layer_weights(), 100_669_440);
    let model = open(&Synth::new(dims, Encoding::Q4_0, 1).unwrap());
    let metadata = model.metadata();
    let numbers = [
        ("phi3.embedding_length", 3072),
        ("phi3.feed_forward_length", 8192),
        ("phi3.block_count", 1),
        ("phi3.attention.head_count", 24),
        ("phi3.attention.head_count_kv", 8),
        ("phi3.attention.sliding_window", 0),
        ("phi3.rope.dimension_count", 96),
        ("phi3.rope.scaling.original_context_length", 4096),
        ("phi3.context_length", 131_072),
        ("phi3.vocab_size", 321),
    ];
    for (key, value) in numbers {
        assert_eq!(metadata.u32(key).unwrap(), value, "{key}");
    }
    assert_eq!(metadata.string("general.architecture").unwrap(), "phi3");
    assert!((metadata.f32("phi3.rope.scaling.attn_factor").unwrap() - 1.190_238).abs() < 1e-6);
    assert!((metadata.f32("phi3.attention.layer_norm_rms_epsilon").unwrap() - 1e-5).abs() < 1e-12);
    let shapes: Vec<_> = model.tensors().map(|t| (t.name().to_owned(), t.dims().to_vec())).collect();
    let expected = [
        ("rope_factors_long.weight", vec![48]),
        ("rope_factors_short.weight", vec![48]),
        ("token_embd.weight", vec![3072, 321]),
        ("output_norm.weight", vec![3072]),
        ("blk.0.attn_norm.weight", vec![3072]),
        ("blk.0.attn_qkv.weight", vec![3072, 5120]),
        ("blk.0.attn_output.weight", vec![3072, 3072]),
        ("blk.0.ffn_norm.weight", vec![3072]),
        ("blk.0.ffn_up.weight", vec![3072, 16384]),
        ("blk.0.ffn_down.weight", vec![8192, 3072]),
    ];
    assert_eq!(shapes, expected.map(|(name, dims)| (name.to_owned(), dims)));
}

#[test]
fn weights_have_the_spread_they_should() {
    for encoding in [Encoding::F32, Encoding::F16, Encoding::Q8_0, Encoding::Q4_0] {
        let model = open(&Synth::new(Dimensions::tiny(), encoding, 3).unwrap());
        let (mean, std) = moments(&weights(&model, "blk.0.ffn_up.weight"));
        assert!(mean.abs() < 0.005 && (std - 0.125).abs() < 0.01, "{encoding:?}: {mean} ± {std}");
        let (mean, std) = moments(&weights(&model, "blk.1.attn_norm.weight"));
        assert!((mean - 1.0).abs() < 0.05 && (std - 0.1).abs() < 0.03, "norm: {mean} ± {std}");
    }
    let dims = Dimensions { layers: 0, vocab: 321, ..Dimensions::phi_4_mini() };
    let model = open(&Synth::new(dims, Encoding::Q8_0, 3).unwrap());
    let (mean, std) = moments(&weights(&model, "token_embd.weight"));
    assert!(mean.abs() < 0.001 && (std - 0.02).abs() < 0.001, "embedding: {mean} ± {std}");
}

#[test]
fn rotary_factors_are_all_different_and_start_at_1() {
    let model = open(&tiny_model());
    assert_eq!(weights(&model, "rope_factors_long.weight"), [1.0, 16.5, 32.0]);
    assert_eq!(weights(&model, "rope_factors_short.weight"), [1.0, 1.05, 1.1]);
}

#[test]
fn the_same_seed_gives_the_same_file_and_another_seed_another() {
    let dir = tempfile::tempdir().unwrap();
    let first = std::fs::read(tiny(dir.path(), 7).unwrap()).unwrap();
    assert!(first == std::fs::read(tiny(dir.path(), 7).unwrap()).unwrap());
    let other = std::fs::read(tiny(dir.path(), 8).unwrap()).unwrap();
    assert!(first.len() == other.len() && first != other);
}

#[test]
fn a_change_to_one_tensor_changes_no_other() {
    let model = open(&tiny_model());
    let reseeded = open(&tiny_model().reseed("blk.1.ffn_up.weight", 2).unwrap());
    assert_eq!(changed(&model, &reseeded), ["blk.1.ffn_up.weight"]);
    let spoiled = open(&tiny_model().spoil("blk.0.attn_qkv.weight", 65, f32::NAN).unwrap());
    assert_eq!(changed(&model, &spoiled), ["blk.0.attn_qkv.weight"]);
    let at = first_non_finite_f32(&weights(&spoiled, "blk.0.attn_qkv.weight")).unwrap();
    assert!((64..96).contains(&at), "the block of weight 65 is spoiled: {at}");
    let without = open(&tiny_model().without_tensor("output_norm.weight").unwrap());
    assert_eq!(changed(&model, &without), ["output_norm.weight"]);
}

#[test]
fn shapes_types_and_keys_can_be_wrong_on_purpose() {
    let model = tiny_model()
        .reshape("blk.0.ffn_down.weight", 64, 96)
        .and_then(|model| model.encode("token_embd.weight", Encoding::F16))
        .and_then(|model| model.without_key("phi3.rope.freq_base"))
        .map(|model| model.with_key("phi3.block_count", 3_u32).with_key("new.key", "text"))
        .and_then(Synth::untied)
        .unwrap();
    let model = open(&model);
    assert_eq!(model.tensor("blk.0.ffn_down.weight").unwrap().dims(), [96, 64]);
    assert_eq!(model.tensor("token_embd.weight").unwrap().dtype(), TensorType::F16);
    assert_eq!(model.metadata().u32("phi3.block_count").unwrap(), 3);
    assert_eq!(model.metadata().string("new.key").unwrap(), "text");
    assert!(model.metadata().f32("phi3.rope.freq_base").unwrap_err().is_missing());
    assert_ne!(weights(&model, "output.weight"), weights(&model, "token_embd.weight"));
}

#[test]
fn what_cannot_be_made_is_refused() {
    let small = Dimensions { vocab: 320, ..Dimensions::tiny() };
    let error = Synth::new(small, Encoding::F16, 1).unwrap_err();
    assert!(matches!(error, SynthError::VocabularyTooSmall { vocab: 320, smallest: 321 }), "{error}");
    let odd = Dimensions { ffn: 40, ..Dimensions::tiny() };
    let error = Synth::new(odd, Encoding::Q8_0, 1).unwrap_err();
    assert!(matches!(error, SynthError::Shape { row_len: 40, block_len: 32, .. }), "{error}");
    assert!(matches!(tiny_model().reseed("blk.9.x", 1), Err(SynthError::NoTensor { .. })));
    assert!(matches!(tiny_model().without_key("no.key"), Err(SynthError::NoKey { .. })));
}
