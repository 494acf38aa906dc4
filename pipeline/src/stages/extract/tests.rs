#![allow(clippy::float_cmp)] // weights are moved, not computed

use anepipe_artifacts::Digest;
use half::f16;
use safetensors::Dtype;

use super::*;
use crate::contract::ExitClass;
use crate::contract::tests::model::{FFN, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, Model, ROPE_DIM, VOCAB};
use crate::tensors::TensorFile;

/// A model file, its contract and a folder.
struct Scene {
    gguf: Gguf,
    contract: Contract,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(model: &Model) -> Self {
        let gguf = model.gguf();
        let contract = Contract::read(&gguf, 32).expect("a contract");
        Self { gguf, contract, folder: tempfile::tempdir().expect("a folder") }
    }

    /// The file that `extract` writes.
    fn file(
        &self,
        weights: impl for<'a> FnOnce(&'a Gguf, &Contract) -> Result<Weights<'a>, ExtractError>,
    ) -> TensorFile {
        let path = self.folder.path().join("x.safetensors");
        weights(&self.gguf, &self.contract).and_then(|weights| weights.write(&path)).expect("extracted");
        TensorFile::open(&path).expect("the file")
    }

    fn error(
        &self,
        weights: impl for<'a> FnOnce(&'a Gguf, &Contract) -> Result<Weights<'a>, ExtractError>,
    ) -> ExtractError {
        let written = weights(&self.gguf, &self.contract)
            .and_then(|weights| weights.write(&self.folder.path().join("x")));
        let error = written.expect_err("an error");
        assert_eq!(std::fs::read_dir(self.folder.path()).expect("the folder").count(), 0, "a file was left");
        error
    }
}

fn layer(layer: u32) -> impl for<'a> Fn(&'a Gguf, &Contract) -> Result<Weights<'a>, ExtractError> {
    move |gguf, contract| super::layer(gguf, contract, layer)
}

/// The rows of a matrix (a vector is one row), and a check of its type and shape.
fn rows(file: &TensorFile, name: &str, dtype: Dtype, shape: &[u64]) -> Vec<Vec<f32>> {
    let tensor = file.tensor(name).expect(name);
    let found: Vec<u64> = tensor.shape().iter().map(|n| *n as u64).collect();
    assert_eq!((tensor.dtype(), &found[..]), (dtype, shape), "{name}");
    let bytes = tensor.read().expect(name);
    let values: Vec<f32> = match dtype {
        Dtype::F16 => bytes.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        _ => bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    };
    values.chunks(shape[shape.len() - 1] as usize).map(<[f32]>::to_vec).collect()
}

#[test]
fn a_fused_layer_is_copied_as_it_stands() {
    let model = Model::phi3();
    let scene = Scene::new(&model);
    let file = scene.file(layer(1));
    let mut names = file.names();
    names.sort();
    assert_eq!(names, ["attn_norm", "attn_output", "down", "ffn_norm", "gate_up", "qkv"]);
    for (name, source, dtype, shape) in [
        ("attn_norm", "attn_norm", Dtype::F32, &[HIDDEN][..]),
        ("ffn_norm", "ffn_norm", Dtype::F32, &[HIDDEN]),
        ("qkv", "attn_qkv", Dtype::F16, &[(HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN]),
        ("attn_output", "attn_output", Dtype::F16, &[HIDDEN, HEADS * HEAD_DIM]),
        ("gate_up", "ffn_up", Dtype::F16, &[2 * FFN, HIDDEN]),
        ("down", "ffn_down", Dtype::F16, &[HIDDEN, FFN]),
    ] {
        let expected = model.rows(&format!("blk.1.{source}.weight"));
        assert_eq!(rows(&file, name, dtype, shape), expected, "{name}");
    }
}

#[test]
fn separate_tensors_are_joined_and_rotated_rows_paired_by_halves() {
    let model = Model::llama();
    let file = Scene::new(&model).file(layer(0));
    let source = |name: &str| model.rows(&format!("blk.0.{name}.weight"));

    // Per head of 6 rows, 4 of them rotated: rows 2i and 2i + 1 go to i and i + 2.
    assert_eq!((HEAD_DIM, ROPE_DIM), (6, 4));
    let paired = |rows: Vec<Vec<f32>>| -> Vec<Vec<f32>> {
        rows.chunks(6).flat_map(|head| [0, 2, 1, 3, 4, 5].map(|row| head[row].clone())).collect()
    };
    let expected = [paired(source("attn_q")), paired(source("attn_k")), source("attn_v")].concat();
    assert_eq!(rows(&file, "qkv", Dtype::F16, &[(HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN]), expected);
    let expected = [source("ffn_gate"), source("ffn_up")].concat();
    assert_eq!(rows(&file, "gate_up", Dtype::F16, &[2 * FFN, HIDDEN]), expected);
}

#[test]
fn the_embedding_serves_as_head_where_there_is_no_other() {
    let model = Model::phi3();
    let scene = Scene::new(&model);
    let rows_of_embedding = model.rows("token_embd.weight");
    let file = scene.file(embedding);
    assert_eq!(rows(&file, "embedding", Dtype::F16, &[VOCAB, HIDDEN]), rows_of_embedding);
    let file = scene.file(|g, c| head(g, c, 2..5));
    assert_eq!(rows(&file, "lm_head", Dtype::F16, &[3, HIDDEN]), rows_of_embedding[2..5]);
    let file = scene.file(|g, c| token_embeddings(g, c, &[6, 0, 6]));
    let some = [6, 0, 6].map(|token: usize| rows_of_embedding[token].clone());
    assert_eq!(rows(&file, "hidden", Dtype::F16, &[3, HIDDEN]), some);
    let file = scene.file(output_norm);
    assert_eq!(rows(&file, "output_norm", Dtype::F32, &[HIDDEN]), model.rows("output_norm.weight"));

    let model = model.add("output.weight", &[HIDDEN, VOCAB]);
    let file = Scene::new(&model).file(|g, c| head(g, c, 2..5));
    assert_eq!(rows(&file, "lm_head", Dtype::F16, &[3, HIDDEN]), model.rows("output.weight")[2..5]);
}

#[test]
fn what_the_model_does_not_have_is_refused() {
    let scene = Scene::new(&Model::phi3());
    for (error, expected) in [
        (scene.error(layer(2)), "there is no layer 2: the model has 2, from 0"),
        (scene.error(|g, c| head(g, c, 5..8)), "there is no token 7: the model has 7"),
        (scene.error(|g, c| token_embeddings(g, c, &[1, 7])), "there is no token 7"),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit_class(), None);
    }
    let other = Model::llama().gguf();
    let error = super::layer(&other, &scene.contract, 0).err().expect("an error");
    assert!(error.to_string().contains("no tensor `blk.0.attn_qkv.weight` of 48 rows"), "{error}");
}

#[test]
fn weights_that_are_no_numbers_of_fp16_are_named_by_their_place_in_the_file() {
    let spoiled = |model: Model, tensor: &str, dims: &[u64], index: usize, value: f32| {
        let mut weights = vec![1.0; dims.iter().product::<u64>() as usize];
        weights[index] = value;
        Scene::new(&model.weights(tensor, dims, weights))
    };
    let qkv = &[HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD_DIM];
    let q = &[HIDDEN, HEADS * HEAD_DIM];
    for (scene, expected) in [
        (
            spoiled(Model::phi3(), "blk.0.attn_qkv.weight", qkv, 3 * 16 + 5, f32::NAN),
            "`blk.0.attn_qkv.weight` has the value NaN in row 3, column 5",
        ),
        (
            spoiled(Model::phi3(), "blk.0.attn_qkv.weight", qkv, 47 * 16, f32::NEG_INFINITY),
            "the value -inf in row 47, column 0",
        ),
        (
            spoiled(Model::phi3(), "blk.0.attn_qkv.weight", qkv, 15, 65520.0),
            "the value 65520 in row 0, column 15",
        ),
        // The row of the file, not that of the permuted matrix.
        (
            spoiled(Model::llama(), "blk.0.attn_q.weight", q, 7 * 16 + 1, f32::INFINITY),
            "`blk.0.attn_q.weight` has the value inf in row 7, column 1",
        ),
        (
            spoiled(Model::phi3(), "blk.0.ffn_norm.weight", &[HIDDEN], 4, 1e6),
            "`blk.0.ffn_norm.weight` has the value 1000000 in row 0, column 4",
        ),
    ] {
        let error = scene.error(layer(0));
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("tiny.gguf"), "{error}");
        assert_eq!(error.exit_class(), Some(ExitClass::BadInput));
    }
    let largest = spoiled(Model::phi3(), "blk.0.attn_qkv.weight", qkv, 0, 65519.0).file(layer(0));
    assert_eq!(largest.tensor("qkv").expect("qkv").read().expect("qkv")[..2], f16::MAX.to_le_bytes());
}

#[test]
fn files_do_not_depend_on_the_number_of_threads() {
    // Matrices of several pieces.
    let model = Model::phi3().set("phi3.feed_forward_length", 20_000_u32);
    let model = (0..2).fold(model, |model, layer| {
        model
            .add(&format!("blk.{layer}.ffn_up.weight"), &[HIDDEN, 40_000])
            .add(&format!("blk.{layer}.ffn_down.weight"), &[20_000, HIDDEN])
    });
    // Weights of this size lose their last bits, and none is too large.
    let scene = Scene::new(&model);
    let mut seen = None;
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let file = pool.install(|| scene.file(layer(0)));
        let bytes = std::fs::read(file.path()).expect("the file");
        assert!(seen.replace(bytes.clone()).is_none_or(|before| before == bytes));
    }
}

#[test]
fn tokenizer_metadata_become_json() {
    let model = Model::phi3()
        .set("tokenizer.ggml.scores", vec![0.5_f32, -1.0])
        .set("tokenizer.ggml.add_bos_token", true)
        .set("tokenizer.chat_template", "{{ \"a\" }}\n");
    let scene = Scene::new(&model);
    let path = scene.folder.path().join("tokenizer.json");
    extract_tokenizer(&scene.gguf, &path).expect("written");
    let written = std::fs::read(&path).expect("the file");
    assert_eq!(tokenizer_digest(&scene.gguf).expect("a digest"), Digest::of_bytes(&written));
    let text = std::fs::read_to_string(&path).expect("the file");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let expected = serde_json::json!({
        "schema": 1,
        "metadata": {
            "tokenizer.chat_template": "{{ \"a\" }}\n",
            "tokenizer.ggml.add_bos_token": true,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-4o",
            "tokenizer.ggml.scores": [0.5, -1.0],
            "tokenizer.ggml.tokens": ["t0", "t1", "t2", "t3", "t4", "t5", "t6"],
        }
    });
    assert_eq!(json, expected);
    assert!(text.starts_with(r#"{"schema":1,"metadata":{"tokenizer.chat_template":"#), "sorted: {text}");
}
