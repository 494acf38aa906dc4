//! A whole model in miniature: two shards of one layer, a head in two shards, an embedding; random weights.
#![allow(dead_code, unreachable_pub)] // a module of several programs, each of which uses its part

pub mod drafters;
pub mod faults;
pub mod ways;

use std::path::Path;
use std::sync::Arc;

use anepipe_runtime::bundle::{HeadPart, Parts};
use anepipe_runtime::device::Device;
use anepipe_runtime::rope::RopeSpec;
use anepipe_runtime::session::{Model, Session};
use anepipe_runtime::token::TokenId;
use half::f16;

use crate::fixture::layer::{Shard, Weights};
use crate::fixture::random::Random;

pub const VOCAB: u32 = 61;
pub const CONTEXT: u32 = 40;
const HIDDEN: usize = 32;
/// Where the head is cut.
const CUT: u32 = 40;

/// Writes the model of `seed` to `folder`, with functions of `widths`, and names its parts. Equal seeds give equal weights.
pub fn write(folder: &Path, seed: u64, widths: &[u32], block: u32) -> Parts {
    let shard = Shard {
        hidden: HIDDEN,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        ffn: 48,
        rope: 6,
        context: CONTEXT as usize,
        width: 1,
        layers: 1,
        weights: Weights::PerRow,
        scale_scores: false,
        bias: false,
    };
    let named: Vec<(String, usize)> = match widths {
        [width] => vec![("main".to_owned(), *width as usize)],
        widths => widths.iter().map(|width| (format!("t{width}"), *width as usize)).collect(),
    };
    let functions: Vec<(&str, usize)> = named.iter().map(|(name, width)| (name.as_str(), *width)).collect();
    let place = |name: &str| folder.join(name);
    let parts = Parts {
        embedding: place("embedding.safetensors"),
        layers: vec![place("layers_0.mlmodelc"), place("layers_1.mlmodelc")],
        heads: vec![
            HeadPart { path: place("head_0.mlmodelc"), rows: 0..CUT },
            HeadPart { path: place("head_1.mlmodelc"), rows: CUT..VOCAB },
        ],
        rope: RopeSpec { rope_dim: 6, base: 1e4, factors: Some(vec![1.0, 1.5, 2.0]), attn_factor: 1.1 },
        widths: widths.to_vec(),
        block,
        context: CONTEXT,
        hidden: HIDDEN as u32,
        vocab: VOCAB,
        tokenizer: place("tokenizer.json"),
    };
    shard.save_widths(&parts.layers[0], seed, &functions, false);
    shard.save_widths(&parts.layers[1], seed + 1, &functions, true);
    shard.save_head(&parts.heads[0].path, seed + 2, &functions, CUT as usize);
    shard.save_head(&parts.heads[1].path, seed + 3, &functions, (VOCAB - CUT) as usize);
    write_embedding(&parts.embedding, VOCAB as usize, seed + 4);
    parts
}

pub fn write_embedding(path: &Path, vocab: usize, seed: u64) {
    let mut random = Random(seed);
    let bytes: Vec<u8> =
        (0..vocab * HIDDEN).flat_map(|_| f16::from_f32(random.normal()).to_le_bytes()).collect();
    let shape = vec![vocab, HIDDEN];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F16, shape, &bytes).unwrap();
    fs_err::write(path, safetensors::serialize([("embedding", view)], None).unwrap()).unwrap();
}

/// Writes and loads the model.
pub fn load(device: &dyn Device, seed: u64, widths: &[u32], block: u32) -> Arc<Model> {
    let folder = tempfile::tempdir().unwrap();
    // What is mapped stays when the folder is gone.
    Arc::new(Model::open(&write(folder.path(), seed, widths, block), device).unwrap())
}

/// A text of random tokens.
pub fn prompt(seed: u64, length: usize) -> Vec<TokenId> {
    let mut random = Random(seed);
    (0..length).map(|_| random.below(VOCAB as usize) as TokenId).collect()
}

pub fn bits(logits: &[f16]) -> Vec<u16> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// The logits behind every token of `tokens`, one token a pass.
pub fn one_by_one(model: &Arc<Model>, tokens: &[TokenId]) -> Vec<Vec<u16>> {
    let mut session = Session::new(model).unwrap();
    tokens
        .iter()
        .map(|&token| {
            session.pass(&[token]).unwrap();
            let logits = bits(session.logits(0).unwrap());
            session.commit(1).unwrap();
            logits
        })
        .collect()
}
