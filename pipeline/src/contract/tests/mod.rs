#![allow(clippy::float_cmp)] // numbers are copied, not computed

pub(crate) mod model;

use std::path::{Path, PathBuf};

use anepipe_gguf::Gguf;
use anepipe_testkit::Value;

use super::*;
use model::Model;

fn read(model: &Model, context: u32) -> Result<Contract, ContractError> {
    Contract::read(&model.gguf(), context)
}

#[test]
fn every_number_has_a_source() {
    let contract = read(&Model::phi3(), 32).expect("a contract");
    let json: serde_json::Value =
        serde_json::from_slice(&contract.to_json().expect("JSON")).expect("JSON that can be read");
    for (field, value, source) in [
        ("architecture", serde_json::json!("phi3"), "general.architecture"),
        ("context_length", 128.into(), "phi3.context_length"),
        ("hidden", 16.into(), "phi3.embedding_length"),
        ("layers", 2.into(), "phi3.block_count"),
        ("heads", 4.into(), "phi3.attention.head_count"),
        ("kv_heads", 2.into(), "phi3.attention.head_count_kv"),
        ("head_dim", 6.into(), "phi3.attention.key_length"),
        ("ffn", 12.into(), "phi3.feed_forward_length"),
        ("vocab", 7.into(), "tokenizer.ggml.tokens"),
        ("norm_eps", serde_json::json!(1e-5), "phi3.attention.layer_norm_rms_epsilon"),
        ("rope_dim", 4.into(), "phi3.rope.dimension_count"),
        ("rope_base", serde_json::json!(10000.0), "phi3.rope.freq_base"),
        ("rope_factors", serde_json::json!([1.0, 1.5]), "rope_factors_short.weight"),
        ("original_context", 32.into(), "phi3.rope.scaling.original_context_length"),
        ("attn_factor", serde_json::json!(1.25), "phi3.rope.scaling.attn_factor"),
        ("sliding_window", serde_json::Value::Null, "phi3.attention.sliding_window"),
        ("head", "tied".into(), "no output.weight, so token_embd.weight"),
    ] {
        let json = &json[field];
        assert_eq!((&json["value"], json["source"].as_str()), (&value, Some(source)), "{field}");
    }
    assert_eq!(json["context"], 32);
    assert_eq!(json["schema"], 1);
    assert_eq!(json["tokenizer"]["kind"]["value"], "gpt2");
    assert_eq!(json["tokenizer"]["pre"]["value"], "gpt-4o");
    assert_eq!(json["tokenizer"]["eos"]["value"], 2);
    assert_eq!(json["tokenizer"]["add_bos"]["source"], "no tokenizer.ggml.add_bos_token");
}

#[test]
fn a_contract_survives_its_json() {
    for model in [Model::phi3(), Model::llama()] {
        let contract = read(&model, 32).expect("a contract");
        let json = contract.to_json().expect("JSON");
        assert_eq!(serde_json::from_slice::<Contract>(&json).expect("a contract"), contract);
    }
}

#[test]
fn factors_are_short_up_to_the_original_context_and_long_beyond() {
    for (context, source, values) in [
        (1, "short", [1.0, 1.5]),
        (32, "short", [1.0, 1.5]),
        (33, "long", [1.0, 40.0]),
        (128, "long", [1.0, 40.0]),
    ] {
        let factors = read(&Model::phi3(), context).expect("a contract").rope_factors;
        assert_eq!(factors.source, format!("rope_factors_{source}.weight"), "{context}");
        assert_eq!(factors.value.as_deref(), Some(&values[..]));
    }
}

#[test]
fn rope_freqs_apply_whatever_the_context() {
    let model = Model::llama().weights("rope_freqs.weight", &[2], vec![1.0, 8.0]);
    let contract = read(&model, 128).expect("a contract");
    assert_eq!(contract.rope_factors, Sourced::new(Some(vec![1.0, 8.0]), "rope_freqs.weight"));
    assert_eq!((contract.attn_factor.value, contract.original_context.value), (1.0, None));
}

/// What the absence of a key means where the GGUF specification says so.
#[test]
fn a_source_says_what_stands_in_for_an_absent_key() {
    let no_tokens = Model::llama().unset("tokenizer.ggml.tokens");
    assert_eq!(read(&no_tokens, 32).expect("a contract").vocab, Sourced::new(7, "token_embd.weight"));
    let contract = read(&Model::llama().set("llama.vocab_size", 7_u32), 32).expect("a contract");
    assert_eq!(contract.vocab, Sourced::new(7, "llama.vocab_size"));
    let contract = read(&Model::llama().unset("tokenizer.ggml.bos_token_id"), 32).expect("a contract");
    assert_eq!(contract.tokenizer.bos, Sourced::new(None, "no tokenizer.ggml.bos_token_id"));
    assert_eq!(contract.sliding_window, Sourced::new(None, "no llama.attention.sliding_window"));
    assert_eq!(contract.attn_factor.value, 1.0);
    assert!(contract.attn_factor.source.starts_with("no llama.rope.scaling.attn_factor"));
}

#[test]
fn a_separate_head_is_found() {
    let contract = read(&Model::phi3().add("output.weight", &[16, 7]), 32).expect("a contract");
    assert_eq!(contract.head, Sourced::new(Head::Separate, "output.weight"));
    assert_eq!(contract.head_tensor(), "output.weight");
}

#[test]
fn neutral_values_of_what_is_not_built_are_accepted() {
    for (key, value) in [
        ("llama.expert_count", Value::U32(0)),
        ("llama.attention.causal", Value::Bool(true)),
        ("llama.attention.value_length", Value::U32(6)),
        ("llama.rope.scaling.type", Value::from("none")),
        ("llama.rope.scaling.factor", Value::F32(1.0)),
        ("llama.attention.sliding_window", Value::U32(32)),
        ("general.type", Value::from("model")),
        ("quantize.imatrix.file", Value::from("x")),
    ] {
        assert!(read(&Model::llama().set(key, value), 32).is_ok(), "{key}");
    }
}

#[test]
fn a_missing_key_is_an_error_and_never_a_default() {
    for key in [
        "general.architecture",
        "phi3.context_length",
        "phi3.embedding_length",
        "phi3.block_count",
        "phi3.feed_forward_length",
        "phi3.attention.head_count",
        "phi3.attention.layer_norm_rms_epsilon",
        "phi3.rope.dimension_count",
        "phi3.rope.freq_base",
        "phi3.rope.scaling.original_context_length",
        "phi3.rope.scaling.attn_factor",
        "tokenizer.ggml.model",
    ] {
        let error = read(&Model::phi3().unset(key), 32).expect_err(key);
        assert_eq!(error.exit_class(), ExitClass::BadInput, "{key}");
        let text = error.to_string();
        assert!(text.contains(&format!("tiny.gguf has no metadata key `{key}`")), "{text}");
    }
}

/// One change to a sound model, and what is said of it.
fn refused(class: ExitClass, cases: Vec<(Model, &str)>) {
    for (model, expected) in cases {
        let error = read(&model, 32).expect_err(expected);
        let text = error.to_string();
        assert!(text.contains(expected), "expected: {expected}\nfound:    {text}");
        assert!(text.contains("tiny.gguf"), "{text}");
        assert_eq!(error.exit_class(), class, "{text}");
    }
}

#[test]
fn contradictions_name_key_expected_and_found() {
    let phi3 = Model::phi3;
    refused(
        ExitClass::BadInput,
        vec![
            (
                phi3().set("phi3.attention.head_count_kv", 3_u32),
                "`phi3.attention.head_count_kv` is 3, expected a divisor of 4 (phi3.attention.head_count)",
            ),
            (phi3().set("phi3.attention.head_count_kv", 0_u32), "`phi3.attention.head_count_kv` is 0"),
            (
                phi3().set("phi3.attention.head_count", 0_u32),
                "`phi3.attention.head_count` is 0, expected at least 1",
            ),
            (
                phi3().set("phi3.rope.dimension_count", 3_u32),
                "`phi3.rope.dimension_count` is 3, expected an even number",
            ),
            (
                phi3().set("phi3.rope.dimension_count", 8_u32),
                "`phi3.rope.dimension_count` is 8, expected at most 6, the head width (phi3.attention.key_length)",
            ),
            (
                phi3().set("phi3.rope.dimension_count", 6_u32),
                "`rope_factors_long.weight` has shape [2], expected [3] (half of rope.dimension_count)",
            ),
            (phi3().set("phi3.rope.freq_base", f32::NAN), "`phi3.rope.freq_base` is NaN"),
            (
                phi3().set("phi3.attention.layer_norm_rms_epsilon", 0.0_f32),
                "`phi3.attention.layer_norm_rms_epsilon` is 0, expected a finite number above 0",
            ),
            (phi3().set("phi3.rope.scaling.attn_factor", -1.0_f32), "`phi3.rope.scaling.attn_factor` is -1"),
            (phi3().set("phi3.context_length", "many"), "\"phi3.context_length\""),
            (phi3().set("phi3.vocab_size", 8_u32), "`token_embd.weight` has shape [7, 16], expected [8, 16]"),
            (
                phi3().set("tokenizer.ggml.tokens", vec!["a".to_owned(), "b".to_owned()]),
                "`token_embd.weight` has shape [7, 16], expected [2, 16]",
            ),
            (
                phi3().set("phi3.vocab_size", 7_u32).set("tokenizer.ggml.tokens", vec!["a".to_owned()]),
                "`tokenizer.ggml.tokens` is a list of 1, expected a list of 7",
            ),
            (
                phi3().set("tokenizer.ggml.eos_token_id", 7_u32),
                "`tokenizer.ggml.eos_token_id` is 7, expected below 7",
            ),
            (
                phi3().set("phi3.embedding_length", 32_u32),
                "`token_embd.weight` has shape [7, 16], expected [7, 32]",
            ),
            (
                phi3().set("phi3.feed_forward_length", 13_u32),
                "`blk.0.ffn_up.weight` has shape [24, 16], expected [26, 16]",
            ),
            (
                phi3().set("phi3.attention.key_length", 8_u32),
                "`blk.0.attn_qkv.weight` has shape [48, 16], expected [64, 16] ((heads + 2 · KV heads) · head width, by hidden)",
            ),
            (
                phi3().set("phi3.attention.key_length", u32::MAX),
                "`blk.0.attn_qkv.weight` has shape [48, 16], expected",
            ),
            (
                phi3().set("phi3.feed_forward_length", u32::MAX),
                "`blk.0.ffn_up.weight` has shape [24, 16], expected",
            ),
            (
                phi3().set("phi3.block_count", 3_u32),
                "has no tensor `blk.2.attn_norm.weight`; a `phi3` model has one of shape [16]",
            ),
            (phi3().set("phi3.block_count", u32::MAX), "has no tensor `blk.2.attn_norm.weight`"),
            (phi3().set("phi3.block_count", 1_u32), "has a tensor `blk.1."),
            (phi3().without("blk.1.ffn_down.weight"), "has no tensor `blk.1.ffn_down.weight`"),
            (phi3().without("token_embd.weight"), "has no tensor `token_embd.weight`"),
            (
                phi3().add("blk.0.attn_qkv.bias", &[48]),
                "has a tensor `blk.0.attn_qkv.bias` of shape [48], expected none",
            ),
            (phi3().add("rope_freqs.weight", &[2]), "`rope_freqs.weight` is beside others"),
            (
                phi3().without("rope_factors_long.weight"),
                "`rope_factors_short.weight` is alone, expected to come with rope_factors_long.weight",
            ),
            (phi3().without("rope_factors_short.weight"), "`rope_factors_long.weight` is alone"),
            (
                phi3().weights("rope_factors_long.weight", &[2], vec![1.0, 0.0]),
                "`rope_factors_long.weight[1]` is 0",
            ),
            (
                phi3().add("output_norm.weight", &[16, 1]).add("output_norm.weight", &[8]),
                "`output_norm.weight` has shape [8], expected [16] (hidden)",
            ),
            (
                Model::llama().set("llama.rope.scaling.type", "longrope"),
                "`llama.rope.scaling.type` is \"longrope\" without them",
            ),
            (
                Model::llama().add("blk.1.attn_k.weight", &[16, 24]),
                "`blk.1.attn_k.weight` has shape [24, 16], expected [12, 16] (KV heads",
            ),
        ],
    );
}

#[test]
fn what_is_not_built_is_named_with_what_is() {
    let llama = Model::llama;
    refused(
        ExitClass::Unsupported,
        vec![
            (
                llama().set("general.architecture", "gemma2"),
                "`general.architecture` is \"gemma2\", which is not supported; supported: phi3, llama",
            ),
            (llama().set("general.type", "adapter"), "`general.type` is \"adapter\""),
            (
                llama().set("llama.attention.sliding_window", 31_u32),
                "`llama.attention.sliding_window` is 31, which is not supported; supported: 0 or at least the context, 32",
            ),
            (llama().set("llama.rope.scaling.type", "yarn"), "`llama.rope.scaling.type` is \"yarn\""),
            (llama().set("llama.rope.scaling.factor", 4.0_f32), "`llama.rope.scaling.factor` is 4"),
            (llama().set("llama.expert_count", 8_u32), "`llama.expert_count` is 8"),
            (llama().set("llama.attention.causal", false), "`llama.attention.causal` is false"),
            (
                llama().set("llama.attention.value_length", 8_u32),
                "`llama.attention.value_length` is 8, which is not supported; supported: values as wide as keys, 6",
            ),
            (
                llama().set("llama.attention.clamp_kqv", 8.0_f32),
                "`llama.attention.clamp_kqv` is 8, which is not supported; supported: models without this key",
            ),
        ],
    );
}

#[test]
fn a_context_outside_the_model_is_refused() {
    for context in [0, 129] {
        let error = read(&Model::phi3(), context).expect_err("refused");
        assert_eq!(error.exit_class(), ExitClass::Unsupported);
        let expected = format!(
            "a context of {context} positions was asked for, and the model in tiny.gguf takes 1 to 128 (`phi3.context_length`)"
        );
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

/// The model of this repository has everything that Phi-4-mini has.
#[test]
fn the_demo_model_has_a_contract() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/anepipe-demo-q8_0.gguf");
    let gguf = Gguf::open(&path).expect("the demo model");
    for (context, factors) in [(512, "rope_factors_short.weight"), (2048, "rope_factors_long.weight")] {
        let contract = Contract::read(&gguf, context).expect("a contract");
        assert_eq!((contract.head_dim.value, contract.rope_dim.value), (32, 24));
        assert_eq!((contract.heads.value, contract.kv_heads.value, contract.qkv_rows()), (6, 2, 320));
        assert_eq!(contract.rope_factors.source, factors);
        assert_eq!(contract.rope_factors.value.map(|values| values.len()), Some(12));
        assert!(contract.attn_factor.value > 1.1);
        assert_eq!(contract.vocab, Sourced::new(2048, "phi3.vocab_size"));
        assert_eq!(contract.head.value, Head::Tied);
    }
}

/// The folder of models that several programs share; absent on most machines.
fn shared_models() -> Option<PathBuf> {
    let shared = std::env::var_os("ANEPIPE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let models = shared.join("models");
    models.is_dir().then_some(models)
}

#[test]
fn published_small_models_have_contracts() {
    let Some(models) = shared_models() else {
        #[allow(clippy::print_stderr)] // a test that did nothing says so
        {
            eprintln!("skipped: the folder of shared models is absent; set ANEPIPE_SHARED");
        }
        return;
    };
    for (file, architecture) in [
        ("stories260K-phi3-f32.gguf", Architecture::Phi3),
        ("stories260K-phi3-q8_0.gguf", Architecture::Phi3),
        ("stories260K-llama-f32.gguf", Architecture::Llama),
        ("stories260K-llama-q8_0.gguf", Architecture::Llama),
    ] {
        let gguf = Gguf::open(&models.join(file)).expect(file);
        let contract = Contract::read(&gguf, 256).expect(file);
        assert_eq!(contract.architecture.value, architecture);
        let numbers = [
            &contract.hidden,
            &contract.layers,
            &contract.heads,
            &contract.kv_heads,
            &contract.head_dim,
            &contract.ffn,
            &contract.vocab,
            &contract.rope_dim,
        ];
        assert_eq!(numbers.map(|n| n.value), [64, 5, 8, 4, 8, 172, 512, 8], "{file}");
        let derived = format!(
            "{architecture}.embedding_length / {architecture}.attention.head_count \
             (no {architecture}.attention.key_length)"
        );
        assert_eq!(contract.head_dim.source, derived);
        assert_eq!((contract.norm_eps.value, contract.rope_base.value), (1e-5, 10000.0));
        assert_eq!((contract.tokenizer.bos.value, contract.tokenizer.eos.value), (Some(1), Some(2)));
        assert_eq!(contract.head.value, Head::Tied);
    }
}
