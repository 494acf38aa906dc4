//! The reference against llama.cpp, and against files that it must refuse.

use std::path::Path;

use anepipe_gguf::Gguf;
use serde::Deserialize;

use super::*;
use crate::gates::golden::edited::{Edited, demo_path, shared};

/// What llama.cpp computed from the same weights, written out in f32.
#[derive(Deserialize)]
struct Recorded {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    #[serde(rename = "prompt_ids")]
    ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    first_logits: Vec<f32>,
}

fn recorded() -> Vec<Prompt> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/demo_llama_cpp.json");
    serde_json::from_slice::<Recorded>(&std::fs::read(path).unwrap()).unwrap().prompts
}

/// Logits at every position.
pub(in crate::gates::golden) fn logits(gguf: &Gguf, context: u32, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    let reference = Reference::open(gguf, context).unwrap();
    reference
        .forward(
            tokens,
            |_, _| {},
            |position, row| {
                assert_eq!(position, rows.len());
                rows.push(row.to_vec());
            },
        )
        .unwrap();
    rows
}

fn argmax(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().fold(0, |best, (id, value)| if *value > row[best] { id } else { best });
    best as u32
}

/// Whether greedy decoding after `prompt` gives `greedy`: it does if every token of it is the likeliest after those before it.
fn decodes_to(gguf: &Gguf, context: u32, prompt: &[u32], greedy: &[u32]) {
    let text = [prompt, greedy].concat();
    let rows = logits(gguf, context, &text[..text.len() - 1]);
    let found: Vec<u32> = rows[prompt.len() - 1..].iter().map(|row| argmax(row)).collect();
    assert_eq!(found, greedy);
}

#[test]
fn demo_logits_are_those_of_llama_cpp() {
    let gguf = Gguf::open(&demo_path()).unwrap();
    for prompt in recorded() {
        let rows = logits(&gguf, 512, &prompt.ids);
        let last = rows.last().unwrap();
        assert_eq!(last.len(), prompt.first_logits.len());
        let worst = last.iter().zip(&prompt.first_logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-4, "{worst}");
    }
}

#[test]
fn demo_greedy_ids_are_those_of_llama_cpp() {
    let gguf = Gguf::open(&demo_path()).unwrap();
    for prompt in recorded() {
        assert_eq!(prompt.greedy_ids.len(), 64);
        decodes_to(&gguf, 512, &prompt.ids, &prompt.greedy_ids);
    }
}

#[test]
fn both_architectures_give_the_greedy_ids_of_llama_cpp() {
    for name in ["stories260K-phi3-f32.gguf", "stories260K-llama-f32.gguf"] {
        let (Some(model), Some(ids)) = (shared(name), shared("stories260K.golden_greedy_ids.txt")) else {
            return;
        };
        let ids = std::fs::read_to_string(ids).unwrap();
        let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
        decodes_to(&Gguf::open(&model).unwrap(), 512, &[1], &ids[..100]);
    }
}

#[test]
fn a_token_sees_nothing_of_what_follows_and_padding_is_not_seen() {
    let gguf = Gguf::open(&demo_path()).unwrap();
    let text: Vec<u32> = (0..37).map(|i| i * 53 % 2048).collect();
    let whole = logits(&gguf, 512, &text);
    for count in [1, 15, 16, 17, 32, 33] {
        assert_eq!(logits(&gguf, 512, &text[..count]), whole[..count], "{count} tokens");
    }
}

#[test]
fn every_layer_is_told_of() {
    let gguf = Gguf::open(&demo_path()).unwrap();
    let mut told = Vec::new();
    let reference = Reference::open(&gguf, 512).unwrap();
    reference.forward(&[1], |done, of| told.push((done, of)), |_, _| {}).unwrap();
    assert_eq!(told, [(1, 4), (2, 4), (3, 4), (4, 4)]);
    assert_eq!((reference.context(), reference.vocab()), (512, 2048));
}

#[test]
fn a_separate_head_is_taken_and_rope_freqs_divide_at_any_context() {
    let demo = Edited::demo();
    let tied = logits(&demo.gguf(), 512, &[1, 2, 3]);
    let doubled = demo.tensor("token_embd.weight").unwrap().values.iter().map(|w| 2.0 * w).collect();
    let separate = demo.clone().with_tensor("output.weight", &[192, 2048], doubled);
    for (twice, once) in logits(&separate.gguf(), 512, &[1, 2, 3]).iter().flatten().zip(tied.iter().flatten())
    {
        assert!((twice - 2.0 * once).abs() == 0.0);
    }

    let (short, long) = ("rope_factors_short.weight", "rope_factors_long.weight");
    let only = |name: &str| {
        let factors = demo.tensor(name).unwrap().values.clone();
        let plain = demo.clone().without_tensor(short).without_tensor(long);
        plain.with_tensor("rope_freqs.weight", &[12], factors).gguf()
    };
    for context in [512, 513] {
        let name = if context == 512 { short } else { long };
        assert_eq!(
            logits(&only(name), 2048, &[1, 2, 3]),
            logits(&demo.gguf(), context, &[1, 2, 3]),
            "{name}"
        );
    }
    assert_ne!(logits(&demo.gguf(), 512, &[1, 2, 3]), logits(&demo.gguf(), 513, &[1, 2, 3]));
}

#[test]
fn a_model_that_would_be_misread_is_refused_and_the_message_names_why() {
    type Change = fn(Edited) -> Edited;
    let table: &[(&str, Change)] = &[
        ("phi3.block_count", |m| m.without_key("phi3.block_count")),
        ("phi3.rope.dimension_count", |m| m.without_key("phi3.rope.dimension_count")),
        ("phi3.rope.freq_base", |m| m.without_key("phi3.rope.freq_base")),
        ("phi3.rope.scaling.attn_factor", |m| m.without_key("phi3.rope.scaling.attn_factor")),
        ("phi3.attention.layer_norm_rms_epsilon", |m| m.without_key("phi3.attention.layer_norm_rms_epsilon")),
        ("original_context_length", |m| m.without_key("phi3.rope.scaling.original_context_length")),
        ("should hold a float32", |m| m.with_key("phi3.rope.freq_base", "fast")),
        ("`phi3.rope.freq_base` is NaN", |m| m.with_key("phi3.rope.freq_base", f32::NAN)),
        ("`phi3.rope.freq_base` is 0", |m| m.with_key("phi3.rope.freq_base", 0.0_f32)),
        ("`phi3.rope.dimension_count` is 34", |m| m.with_key("phi3.rope.dimension_count", 34_u32)),
        ("`phi3.rope.dimension_count` is 23", |m| m.with_key("phi3.rope.dimension_count", 23_u32)),
        ("has shape [12], expected [16]", |m| m.with_key("phi3.rope.dimension_count", 32_u32)),
        ("`phi3.attention.head_count_kv` is 4", |m| m.with_key("phi3.attention.head_count_kv", 4_u32)),
        ("`phi3.attention.head_count_kv` is 0", |m| m.with_key("phi3.attention.head_count_kv", 0_u32)),
        ("`phi3.attention.head_count` is 7", |m| {
            m.with_key("phi3.attention.head_count", 7_u32).with_key("phi3.attention.head_count_kv", 7_u32)
        }),
        ("expected [16640, 192]", |m| {
            m.with_key("phi3.attention.key_length", 64_u32).with_key("phi3.attention.head_count", 256_u32)
        }),
        ("attn_qkv.weight", |m| m.with_key("phi3.attention.key_length", u32::MAX - 1)),
        ("`phi3.attention.value_length` is 16", |m| m.with_key("phi3.attention.value_length", 16_u32)),
        ("`phi3.attention.sliding_window` is 128", |m| m.with_key("phi3.attention.sliding_window", 128_u32)),
        ("`phi3.attention.causal` is false", |m| m.with_key("phi3.attention.causal", false)),
        ("`phi3.expert_count` is 8", |m| m.with_key("phi3.expert_count", 8_u32)),
        ("`phi3.rope.scaling.type` is \"yarn\"", |m| m.with_key("phi3.rope.scaling.type", "yarn")),
        ("`phi3.rope.scaling.factor` is 4", |m| m.with_key("phi3.rope.scaling.factor", 4.0_f32)),
        ("key `phi3.attention.scale`", |m| m.with_key("phi3.attention.scale", 0.1_f32)),
        ("`phi3.context_length` is 100", |m| m.with_key("phi3.context_length", 100_u32)),
        ("`phi3.context_length` is 0", |m| {
            m.with_key("phi3.context_length", 0_u32).with_key("phi3.attention.sliding_window", 0_u32)
        }),
        ("architecture is \"gemma\"", |m| m.with_key("general.architecture", "gemma")),
        ("general.architecture", |m| m.without_key("general.architecture")),
        ("no tensor `blk.2.ffn_down.weight`", |m| m.without_tensor("blk.2.ffn_down.weight")),
        ("no tensor `blk.4.attn_norm.weight`", |m| m.with_key("phi3.block_count", u32::MAX)),
        ("tensor `blk.3.", |m| m.with_key("phi3.block_count", 3_u32)),
        ("tensor `blk.0.attn_q.bias`", |m| m.with_tensor("blk.0.attn_q.bias", &[192], vec![0.0; 192])),
        ("expected [2000, 192]", |m| m.with_key("phi3.vocab_size", 2000_u32)),
        ("expected [192]", |m| m.with_tensor("output_norm.weight", &[191], vec![1.0; 191])),
        ("given as rope_factors_long.weight,", |m| m.without_tensor("rope_factors_short.weight")),
        ("given as rope_freqs.weight and", |m| m.with_tensor("rope_freqs.weight", &[12], vec![1.0; 12])),
        ("rope_factors_short.weight[3]` is 0", |m| {
            let mut factors = m.tensor("rope_factors_short.weight").unwrap().values.clone();
            factors[3] = 0.0;
            m.with_tensor("rope_factors_short.weight", &[12], factors)
        }),
    ];
    let demo = Edited::demo();
    for (expected, change) in table {
        let gguf = change(demo.clone()).gguf();
        let message = Reference::open(&gguf, 512).expect_err(expected).to_string();
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn tokens_that_cannot_be_run_are_refused() {
    let gguf = Gguf::open(&demo_path()).unwrap();
    let reference = Reference::open(&gguf, 8).unwrap();
    let run = |tokens: &[u32]| reference.forward(tokens, |_, _| {}, |_, _| {});
    assert!(matches!(run(&[]), Err(ReferenceError::NoTokens)));
    assert!(matches!(run(&[1; 9]), Err(ReferenceError::TooLong { tokens: 9, context: 8 })));
    assert!(matches!(run(&[1, 2048]), Err(ReferenceError::Token { token: 2048, position: 1, vocab: 2048 })));
    assert!(matches!(Reference::open(&gguf, 0), Err(ReferenceError::Value { .. })));
}
