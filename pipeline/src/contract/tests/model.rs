//! Small models, sound until a test changes something.

use anepipe_gguf::Gguf;
use anepipe_testkit::{GgufWriter, Value};

/// A tensor: its name, its dims (fastest first) and its weights.
type Tensor = (String, Vec<u64>, Vec<f32>);

/// A model to be written.
#[derive(Clone)]
pub(crate) struct Model {
    keys: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

/// Number of tokens.
pub(crate) const VOCAB: u64 = 7;
/// Width of the residual stream.
pub(crate) const HIDDEN: u64 = 16;
/// Layers.
pub(crate) const LAYERS: u64 = 2;
/// Width of the feed-forward block.
pub(crate) const FFN: u64 = 12;
/// Query heads.
pub(crate) const HEADS: u64 = 4;
/// Key and value heads.
pub(crate) const KV_HEADS: u64 = 2;
/// Width of a head: not hidden / heads, so that nothing may assume it.
pub(crate) const HEAD_DIM: u64 = 6;
/// Rotated dims of a head.
pub(crate) const ROPE_DIM: u64 = 4;

impl Model {
    fn new(architecture: &str) -> Self {
        let mut model = Self { keys: Vec::new(), tensors: Vec::new() };
        let tokens: Vec<Value> = (0..VOCAB).map(|i| Value::String(format!("t{i}"))).collect();
        let tokens = Value::Array(anepipe_testkit::ValueKind::String, tokens);
        for (key, value) in [
            ("general.architecture", Value::from(architecture)),
            ("*.context_length", Value::U32(128)),
            ("*.embedding_length", Value::U32(HIDDEN as u32)),
            ("*.block_count", Value::U32(LAYERS as u32)),
            ("*.feed_forward_length", Value::U32(FFN as u32)),
            ("*.attention.head_count", Value::U32(HEADS as u32)),
            ("*.attention.head_count_kv", Value::U32(KV_HEADS as u32)),
            ("*.attention.key_length", Value::U32(HEAD_DIM as u32)),
            ("*.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("*.rope.dimension_count", Value::U32(ROPE_DIM as u32)),
            ("*.rope.freq_base", Value::F32(10000.0)),
            ("tokenizer.ggml.model", Value::from("gpt2")),
            ("tokenizer.ggml.pre", Value::from("gpt-4o")),
            ("tokenizer.ggml.tokens", tokens),
            ("tokenizer.ggml.bos_token_id", Value::U32(1)),
            ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ] {
            model.keys.push((key.replace('*', architecture), value));
        }
        model.add("token_embd.weight", &[HIDDEN, VOCAB]).add("output_norm.weight", &[HIDDEN])
    }

    /// A Phi-3 model with factors for contexts up to 32 and beyond.
    pub(crate) fn phi3() -> Self {
        let mut model = Self::new("phi3")
            .set("phi3.rope.scaling.original_context_length", 32_u32)
            .set("phi3.rope.scaling.attn_factor", 1.25_f32)
            .set("phi3.attention.sliding_window", 0_u32)
            .weights("rope_factors_short.weight", &[ROPE_DIM / 2], vec![1.0, 1.5])
            .weights("rope_factors_long.weight", &[ROPE_DIM / 2], vec![1.0, 40.0]);
        for layer in 0..LAYERS {
            model = model
                .layer_common(layer)
                .add(&format!("blk.{layer}.attn_qkv.weight"), &[HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD_DIM])
                .add(&format!("blk.{layer}.ffn_up.weight"), &[HIDDEN, 2 * FFN]);
        }
        model
    }

    /// A Llama model.
    pub(crate) fn llama() -> Self {
        let mut model = Self::new("llama");
        for layer in 0..LAYERS {
            model = model.layer_common(layer);
            for (name, rows) in [
                ("attn_q", HEADS * HEAD_DIM),
                ("attn_k", KV_HEADS * HEAD_DIM),
                ("attn_v", KV_HEADS * HEAD_DIM),
                ("ffn_gate", FFN),
                ("ffn_up", FFN),
            ] {
                model = model.add(&format!("blk.{layer}.{name}.weight"), &[HIDDEN, rows]);
            }
        }
        model
    }

    fn layer_common(self, layer: u64) -> Self {
        self.add(&format!("blk.{layer}.attn_norm.weight"), &[HIDDEN])
            .add(&format!("blk.{layer}.attn_output.weight"), &[HEADS * HEAD_DIM, HIDDEN])
            .add(&format!("blk.{layer}.ffn_norm.weight"), &[HIDDEN])
            .add(&format!("blk.{layer}.ffn_down.weight"), &[FFN, HIDDEN])
    }

    /// Sets a key, new or known.
    pub(crate) fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        match self.keys.iter_mut().find(|(known, _)| known == key) {
            Some(known) => known.1 = value,
            None => self.keys.push((key.to_owned(), value)),
        }
        self
    }

    /// Removes a key, which must be there.
    pub(crate) fn unset(mut self, key: &str) -> Self {
        let before = self.keys.len();
        self.keys.retain(|(known, _)| known != key);
        assert!(self.keys.len() < before, "no key {key}");
        self
    }

    /// Adds a tensor, or replaces it, with weights that are all different and exact in fp16.
    pub(crate) fn add(self, tensor: &str, dims: &[u64]) -> Self {
        let first = (self.tensors.len() * 64) as f32;
        let weights = (0..dims.iter().product()).map(|i: u64| (first + i as f32) / 64.0).collect();
        self.weights(tensor, dims, weights)
    }

    /// Adds a tensor, or replaces it.
    pub(crate) fn weights(mut self, tensor: &str, dims: &[u64], weights: Vec<f32>) -> Self {
        let new = (tensor.to_owned(), dims.to_vec(), weights);
        match self.tensors.iter_mut().find(|(known, ..)| known == tensor) {
            Some(known) => *known = new,
            None => self.tensors.push(new),
        }
        self
    }

    /// Removes a tensor, which must be there.
    pub(crate) fn without(mut self, tensor: &str) -> Self {
        let before = self.tensors.len();
        self.tensors.retain(|(known, ..)| known != tensor);
        assert!(self.tensors.len() < before, "no tensor {tensor}");
        self
    }

    /// The rows of a tensor.
    pub(crate) fn rows(&self, tensor: &str) -> Vec<Vec<f32>> {
        let (_, dims, weights) = self.tensors.iter().find(|(name, ..)| name == tensor).expect(tensor);
        weights.chunks(dims[0] as usize).map(<[f32]>::to_vec).collect()
    }

    /// The model as a file that was read.
    pub(crate) fn gguf(&self) -> Gguf {
        let writer = self.keys.iter().fold(GgufWriter::new(), |w, (key, value)| w.meta(key, value.clone()));
        let tensors = &self.tensors;
        let writer = tensors.iter().fold(writer, |w, (name, dims, weights)| w.f32(name, dims, weights));
        Gguf::from_bytes("tiny.gguf", writer.to_bytes()).expect("a well-formed file")
    }
}
