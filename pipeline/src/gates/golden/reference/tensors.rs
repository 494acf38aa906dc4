//! The tensors of a model: which there must be, of which shapes, and that there are no others.

use std::collections::HashSet;
use std::path::PathBuf;

use anepipe_gguf::{Gguf, GgufError, Tensor};

use super::ReferenceError;
use super::numbers::{Architecture, Numbers, ROPE_TENSORS};

/// The tensors of one layer. What stands in several tensors is a list, to be put one under the other.
pub(super) struct Layer<'a> {
    pub(super) attn_norm: Tensor<'a>,
    /// q, k, v.
    pub(super) qkv: Vec<Tensor<'a>>,
    pub(super) attn_output: Tensor<'a>,
    pub(super) ffn_norm: Tensor<'a>,
    /// gate, up.
    pub(super) gate_up: Vec<Tensor<'a>>,
    pub(super) ffn_down: Tensor<'a>,
}

impl<'a> Layer<'a> {
    /// The tensors of a layer, of the shapes that the numbers give.
    pub(super) fn find(numbers: &Numbers, index: u32, found: &mut Found<'a>) -> Result<Self, ReferenceError> {
        let Numbers { architecture, hidden, ffn, heads, kv_heads, head_dim, .. } = *numbers;
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        // Numbers of 32 bits: their products fit 64, sums of products may not.
        let (fused, both) = (q.saturating_add(kv.saturating_mul(2)), 2 * ffn);
        let mut tensor =
            |part: &str, shape: &[u64], why| found.tensor(&format!("blk.{index}.{part}.weight"), shape, why);
        let by_hidden = "heads by head width, and embedding_length";
        let ffn_rows = "feed_forward_length, and embedding_length";
        Ok(Self {
            attn_norm: tensor("attn_norm", &[hidden], "embedding_length")?,
            qkv: match architecture {
                Architecture::Phi3 => vec![tensor(
                    "attn_qkv",
                    &[fused, hidden],
                    "query, key and value heads by head width, and embedding_length",
                )?],
                Architecture::Llama => vec![
                    tensor("attn_q", &[q, hidden], by_hidden)?,
                    tensor("attn_k", &[kv, hidden], by_hidden)?,
                    tensor("attn_v", &[kv, hidden], by_hidden)?,
                ],
            },
            attn_output: tensor("attn_output", &[hidden, q], "embedding_length, and heads by head width")?,
            ffn_norm: tensor("ffn_norm", &[hidden], "embedding_length")?,
            gate_up: match architecture {
                Architecture::Phi3 => vec![tensor(
                    "ffn_up",
                    &[both, hidden],
                    "twice feed_forward_length, and embedding_length",
                )?],
                Architecture::Llama => vec![
                    tensor("ffn_gate", &[ffn, hidden], ffn_rows)?,
                    tensor("ffn_up", &[ffn, hidden], ffn_rows)?,
                ],
            },
            ffn_down: tensor("ffn_down", &[hidden, ffn], "embedding_length, and feed_forward_length")?,
        })
    }
}

/// The tensors of a file that are part of the model.
pub(super) struct Found<'a> {
    gguf: &'a Gguf,
    names: HashSet<String>,
}

impl<'a> Found<'a> {
    /// Rotary factors, which are read with the numbers, and nothing else yet.
    pub(super) fn new(gguf: &'a Gguf) -> Self {
        Self { gguf, names: HashSet::from(ROPE_TENSORS.map(str::to_owned)) }
    }

    /// Refuses a file with a tensor that was not asked for.
    pub(super) fn refuse_others(&self) -> Result<(), ReferenceError> {
        match self.gguf.tensors().find(|tensor| !self.names.contains(tensor.name())) {
            None => Ok(()),
            Some(tensor) => Err(ReferenceError::UnknownTensor {
                file: file_of(self.gguf),
                tensor: tensor.name().to_owned(),
            }),
        }
    }

    pub(super) fn tensor(
        &mut self,
        name: &str,
        shape: &[u64],
        why: &'static str,
    ) -> Result<Tensor<'a>, ReferenceError> {
        let Some(tensor) = self.gguf.tensor(name) else {
            return Err(ReferenceError::MissingTensor {
                file: file_of(self.gguf),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
            });
        };
        expect_shape(self.gguf, &tensor, shape, why)?;
        self.names.insert(name.to_owned());
        Ok(tensor)
    }

    /// The embedding, whose number of rows is the vocabulary; the key that says so, if there is one, must agree.
    pub(super) fn embedding(&mut self, hidden: u64) -> Result<Tensor<'a>, ReferenceError> {
        let name = "token_embd.weight";
        let metadata = self.gguf.metadata();
        let architecture = metadata.string("general.architecture")?;
        let vocab = match metadata.optional::<u64>(&format!("{architecture}.vocab_size"))? {
            Some(vocab) => vocab,
            None => self.gguf.tensor(name).map_or(0, |tensor| tensor.rows()),
        };
        self.tensor(name, &[vocab, hidden], "number of tokens, and embedding_length")
    }
}

/// Refuses a tensor of another shape (slowest axis first) or of a type that cannot be decoded.
pub(super) fn expect_shape(
    gguf: &Gguf,
    tensor: &Tensor<'_>,
    expected: &[u64],
    why: &'static str,
) -> Result<(), ReferenceError> {
    let (file, name) = (file_of(gguf), tensor.name().to_owned());
    if tensor.shape() != expected {
        let (expected, found) = (expected.to_vec(), tensor.shape());
        return Err(ReferenceError::Shape { file, tensor: name, expected, found, why });
    }
    if !tensor.dtype().can_dequantize() {
        let dtype = tensor.dtype();
        return Err(GgufError::NoKernel { file, tensor: name, dtype }.into());
    }
    Ok(())
}

/// The file, for messages.
pub(super) fn file_of(gguf: &Gguf) -> PathBuf {
    gguf.files().first().cloned().unwrap_or_default()
}
