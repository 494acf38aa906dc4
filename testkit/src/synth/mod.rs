//! Synthetic models of the phi3 architecture: the right shape and metadata throughout, and random weights that keep
//! activations in a sane range, from a seed.
//!
//! ```
//! use anepipe_testkit::synth::{Dimensions, Synth};
//! use anepipe_testkit::Encoding;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let model = Synth::new(Dimensions::tiny(), Encoding::Q8_0, 1)?;
//! model.write(&dir.path().join("one.gguf"))?;
//! // The same model but for one tensor.
//! model.reseed("blk.1.ffn_up.weight", 2)?.write(&dir.path().join("other.gguf"))?;
//! # Ok(())
//! # }
//! ```

mod dimensions;
mod vocabulary;
mod weights;

use std::path::{Path, PathBuf};

use thiserror::Error;

use self::weights::{Fill, Weights};
pub use self::{dimensions::Dimensions, vocabulary::vocabulary_only};
use crate::{Encoding, GgufWriter, Value, WriteError};

/// Why a synthetic model cannot be made.
#[derive(Debug, Error)]
pub enum SynthError {
    /// Too few tokens for the bytes and the control tokens.
    #[error(
        "a vocabulary has at least {smallest} tokens: 256 bytes and 65 places for control tokens, not {vocab}"
    )]
    VocabularyTooSmall {
        /// The size asked for.
        vocab: u64,
        /// The smallest.
        smallest: u64,
    },
    /// Rows that are no whole number of blocks, or no rows.
    #[error(
        "tensor {tensor:?} would have {rows} rows of {row_len} weights, and {encoding:?} packs them by {block_len}"
    )]
    Shape {
        /// The tensor.
        tensor: String,
        /// Rows asked for.
        rows: u64,
        /// Weights in a row.
        row_len: u64,
        /// How they would be stored.
        encoding: Encoding,
        /// Weights in a block.
        block_len: u64,
    },
    /// A change to a tensor that there is not.
    #[error("the model has no tensor {tensor:?}; it has, for example, {example:?}")]
    NoTensor {
        /// The tensor asked for.
        tensor: String,
        /// One that there is.
        example: String,
    },
    /// A removal of a key that there is not.
    #[error("the model has no metadata key {key:?}")]
    NoKey {
        /// The key asked for.
        key: String,
    },
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A model to write: the whole of a phi3 GGUF file, which can be changed here and there first.
#[derive(Clone, Debug, PartialEq)]
pub struct Synth {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Weights>,
}

/// Writes the tiny model of `seed` to `dir`, as `tiny-<seed>.gguf` in Q8_0.
pub fn tiny(dir: &Path, seed: u64) -> Result<PathBuf, SynthError> {
    let path = dir.join(format!("tiny-{seed}.gguf"));
    Synth::new(Dimensions::tiny(), Encoding::Q8_0, seed)?.write(&path)?;
    Ok(path)
}

impl Synth {
    /// The model of `dims` whose matrices are stored in `encoding`, with weights from `seed`. Its head is tied to its
    /// embedding.
    ///
    /// Matrices have a deviation of 0.02, or 1/√columns where that is more, so that each keeps the size of what it is
    /// applied to; norms are about 1. The short rotary factors go from 1.0 to 1.1 and the long ones from 1 to 32, so
    /// that no two are alike.
    pub fn new(dims: Dimensions, encoding: Encoding, seed: u64) -> Result<Self, SynthError> {
        let smallest = vocabulary::SMALLEST;
        if dims.vocab < smallest {
            return Err(SynthError::VocabularyTooSmall { vocab: dims.vocab, smallest });
        }
        let synth = Self { metadata: metadata(&dims, encoding), tensors: tensors(&dims, encoding, seed) };
        synth.tensors.iter().try_for_each(check)?;
        Ok(synth)
    }

    /// Gives the model a head of its own (`output.weight`).
    pub fn untied(mut self) -> Result<Self, SynthError> {
        let head = Weights { name: "output.weight".to_owned(), ..self.find("token_embd.weight")?.clone() };
        self.tensors.push(head);
        Ok(self)
    }

    /// Draws one tensor's weights anew.
    pub fn reseed(self, tensor: &str, seed: u64) -> Result<Self, SynthError> {
        self.changed(tensor, |weights| weights.seed = seed)
    }

    /// Replaces one weight, counted over the tensor row by row, by `value`: an infinity or NaN, as a rule.
    pub fn spoil(self, tensor: &str, index: u64, value: f32) -> Result<Self, SynthError> {
        self.changed(tensor, |weights| weights.spoiled = Some((index, value)))
    }

    /// Gives one tensor another shape: `rows` of `row_len`.
    pub fn reshape(self, tensor: &str, rows: u64, row_len: u64) -> Result<Self, SynthError> {
        self.changed(tensor, |weights| (weights.rows, weights.row_len) = (rows, row_len))
    }

    /// Stores one tensor in another type.
    pub fn encode(self, tensor: &str, encoding: Encoding) -> Result<Self, SynthError> {
        self.changed(tensor, |weights| weights.encoding = encoding)
    }

    /// Leaves one tensor out.
    pub fn without_tensor(mut self, tensor: &str) -> Result<Self, SynthError> {
        self.find(tensor)?;
        self.tensors.retain(|weights| weights.name != tensor);
        Ok(self)
    }

    /// Sets a metadata key, in place if there is one.
    #[must_use]
    pub fn with_key(mut self, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        match self.metadata.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
        self
    }

    /// Leaves a metadata key out.
    pub fn without_key(mut self, key: &str) -> Result<Self, SynthError> {
        if !self.metadata.iter().any(|(name, _)| name == key) {
            return Err(SynthError::NoKey { key: key.to_owned() });
        }
        self.metadata.retain(|(name, _)| name != key);
        Ok(self)
    }

    /// The model, ready to be written.
    #[must_use]
    pub fn writer(&self) -> GgufWriter {
        let writer = GgufWriter::new();
        let writer =
            self.metadata.iter().fold(writer, |writer, (key, value)| writer.meta(key, value.clone()));
        self.tensors.iter().fold(writer, |writer, weights| {
            let matrix = [weights.row_len, weights.rows];
            // Norms and rotary factors are single rows and have one dimension.
            let dims = if weights.rows == 1 { &matrix[..1] } else { &matrix[..] };
            writer.tensor(&weights.name, dims, weights.encoding.type_id(), weights.clone())
        })
    }

    /// Writes the model to one file.
    pub fn write(&self, path: &Path) -> Result<(), SynthError> {
        Ok(self.writer().write(path)?)
    }

    fn find(&self, tensor: &str) -> Result<&Weights, SynthError> {
        self.tensors.iter().find(|weights| weights.name == tensor).ok_or_else(|| SynthError::NoTensor {
            tensor: tensor.to_owned(),
            example: self.tensors.last().map(|weights| weights.name.clone()).unwrap_or_default(),
        })
    }

    fn changed(mut self, tensor: &str, change: impl FnOnce(&mut Weights)) -> Result<Self, SynthError> {
        self.find(tensor)?;
        if let Some(weights) = self.tensors.iter_mut().find(|weights| weights.name == tensor) {
            change(weights);
            check(weights)?;
        }
        Ok(self)
    }
}

fn check(weights: &Weights) -> Result<(), SynthError> {
    let &Weights { rows, row_len, encoding, .. } = weights;
    let block_len = encoding.block_len();
    if rows > 0 && row_len > 0 && row_len % block_len == 0 {
        return Ok(());
    }
    Err(SynthError::Shape { tensor: weights.name.clone(), rows, row_len, encoding, block_len })
}

fn metadata(dims: &Dimensions, encoding: Encoding) -> Vec<(String, Value)> {
    let u32 = |value: u64| Value::U32(value as u32);
    let model = [
        ("general.architecture", "phi3".into()),
        ("general.name", dims.name.into()),
        ("general.file_type", Value::U32(encoding.file_type())),
        ("general.quantization_version", Value::U32(2)),
        ("phi3.context_length", u32(dims.context)),
        ("phi3.embedding_length", u32(dims.hidden)),
        ("phi3.feed_forward_length", u32(dims.ffn)),
        ("phi3.block_count", u32(dims.layers)),
        ("phi3.attention.head_count", u32(dims.heads)),
        ("phi3.attention.head_count_kv", u32(dims.kv_heads)),
        ("phi3.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("phi3.attention.sliding_window", Value::U32(0)),
        ("phi3.rope.dimension_count", u32(dims.rope_dim)),
        ("phi3.rope.freq_base", Value::F32(10_000.0)),
        ("phi3.rope.scaling.original_context_length", u32(dims.original_context)),
        ("phi3.rope.scaling.attn_factor", Value::F32(dims.attn_factor())),
        ("phi3.vocab_size", u32(dims.vocab)),
    ];
    let tokenizer = vocabulary::metadata(dims.vocab);
    model.into_iter().chain(tokenizer).map(|(key, value)| (key.to_owned(), value)).collect()
}

fn tensors(dims: &Dimensions, encoding: Encoding, seed: u64) -> Vec<Weights> {
    let named = |name: &str, rows, row_len, encoding, fill| {
        let name = name.to_owned();
        Weights { name, rows, row_len, encoding, seed, fill, spoiled: None }
    };
    let matrix = |name: &str, rows, row_len| {
        let std = (1.0 / (row_len as f32).sqrt()).max(0.02);
        named(name, rows, row_len, encoding, Fill::Bell { mean: 0.0, std })
    };
    let norm = |name: &str| named(name, 1, dims.hidden, Encoding::F32, Fill::Bell { mean: 1.0, std: 0.1 });
    let factors = |name: &str, factor: &dyn Fn(f32) -> f32| {
        let count = (dims.rope_dim / 2).max(1);
        let along = |i: u64| i as f32 / (count - 1).max(1) as f32;
        let weights = (0..count).map(|i| factor(along(i))).collect();
        named(name, 1, count, Encoding::F32, Fill::Given(weights))
    };

    let mut tensors = vec![
        factors("rope_factors_long.weight", &|along| 1.0 + 31.0 * along),
        factors("rope_factors_short.weight", &|along| 1.0 + 0.1 * along),
        matrix("token_embd.weight", dims.vocab, dims.hidden),
        norm("output_norm.weight"),
    ];
    for layer in 0..dims.layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        tensors.extend([
            norm(&name("attn_norm")),
            matrix(&name("attn_qkv"), dims.qkv(), dims.hidden),
            matrix(&name("attn_output"), dims.hidden, dims.heads * dims.head_dim),
            norm(&name("ffn_norm")),
            matrix(&name("ffn_up"), 2 * dims.ffn, dims.hidden),
            matrix(&name("ffn_down"), dims.hidden, dims.ffn),
        ]);
    }
    tensors
}
