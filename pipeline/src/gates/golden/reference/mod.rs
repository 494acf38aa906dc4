//! An independent forward of a language model, in fp32, straight from the GGUF file.
//!
//! It shares nothing with what the build uses but the decoding of stored weights, which is held to gguf-py bit for bit: numbers
//! are read from the metadata by its own code, and rotary embedding, norms and attention are written from their definitions. So a
//! number that the build misreads or forgets shows as a difference. It is held itself against llama.cpp (see its tests).
//!
//! All tokens of a text go through a layer together, and weights are streamed by rows, so that memory is that of the activations,
//! `[tokens, hidden + feed-forward]`, whatever the size of the model.

mod attention;
mod columns;
mod error;
mod numbers;
mod product;
mod rope;
mod storage;
mod tensors;
#[cfg(test)]
pub(super) mod tests;

use anepipe_gguf::{Gguf, Tensor};

pub use error::ReferenceError;
pub use storage::Stored;

use attention::attention;
use columns::{Columns, LANES};
use numbers::Numbers;
use product::product;
use rope::Rotation;
use storage::{Rounding, half};
use tensors::{Found, Layer};

/// Logits held at a time, unless one token has more: 32 MB.
const LOGITS: usize = 1 << 23;

/// A model that was found to be whole and of a kind that is computed here.
#[derive(Debug, Clone)]
pub struct Reference<'a> {
    gguf: &'a Gguf,
    numbers: Numbers,
    embedding: Tensor<'a>,
    output_norm: Tensor<'a>,
    head: Tensor<'a>,
    stored: Option<Stored>,
}

impl<'a> Reference<'a> {
    /// The model in `gguf` (architecture `phi3` or `llama`), as it computes with room for `context` positions, which decides over
    /// the rotary factors. Every key and tensor is checked here; a key or tensor that would be left out is an error.
    pub fn open(gguf: &'a Gguf, context: u32) -> Result<Self, ReferenceError> {
        let numbers = Numbers::read(gguf, context)?;
        let mut found = Found::new(gguf);
        let embedding = found.embedding(numbers.hidden)?;
        let vocab = embedding.rows();
        let output_norm = found.tensor("output_norm.weight", &[numbers.hidden], "embedding_length")?;
        let head = if gguf.tensor("output.weight").is_some() {
            let why = "rows of token_embd.weight, by embedding_length";
            found.tensor("output.weight", &[vocab, numbers.hidden], why)?
        } else {
            embedding
        };
        let reference = Self { gguf, numbers, embedding, output_norm, head, stored: None };
        for layer in 0..reference.numbers.layers {
            Layer::find(&reference.numbers, layer, &mut found)?;
        }
        found.refuse_others()?;
        Ok(reference)
    }

    /// The same model with its weights rounded as shards store them, and all else as before.
    #[must_use]
    pub fn stored_as(&self, stored: Stored) -> Self {
        Self { stored: Some(stored), ..self.clone() }
    }

    /// Positions that there is room for.
    pub fn context(&self) -> u32 {
        self.numbers.context
    }

    /// Number of tokens, and of logits a position.
    pub fn vocab(&self) -> usize {
        self.embedding.rows() as usize
    }

    /// Runs `tokens` from position 0 and gives every position's logits `[vocab]`, in order. `on_layer` is told of the layers done
    /// and of how many there are.
    pub fn forward(
        &self,
        tokens: &[u32],
        mut on_layer: impl FnMut(u32, u32),
        mut on_logits: impl FnMut(usize, &[f32]),
    ) -> Result<(), ReferenceError> {
        let mut hidden = self.embed(tokens)?;
        let rotation = Rotation::new(&self.numbers.rope, self.numbers.architecture, tokens.len());
        let mut found = Found::new(self.gguf);
        for layer in 0..self.numbers.layers {
            self.run(&Layer::find(&self.numbers, layer, &mut found)?, &rotation, &mut hidden)?;
            on_layer(layer + 1, self.numbers.layers);
        }
        let hidden = self.norm(&hidden, &self.output_norm)?;
        let rounding = self.stored.as_ref().map(|stored| stored.head(&self.head)).transpose()?;
        let rounding = rounding.unwrap_or(Rounding::None);
        let group = (LOGITS / self.vocab() / LANES * LANES).max(LANES);
        for start in (0..tokens.len()).step_by(group) {
            let some = start..(start + group).min(tokens.len());
            let logits = product(&self.head, &rounding, &hidden.of_tokens(some.clone()))?;
            for (index, position) in some.enumerate() {
                let row: Vec<f32> = logits.column(index).collect();
                on_logits(position, &row);
            }
        }
        Ok(())
    }

    /// Refuses a text that [`Reference::forward`] would refuse: of no tokens, of too many, or of tokens that there are not.
    pub fn check(&self, tokens: &[u32]) -> Result<(), ReferenceError> {
        let (context, vocab) = (self.numbers.context, self.embedding.rows());
        if tokens.is_empty() {
            return Err(ReferenceError::NoTokens);
        }
        if tokens.len() > context as usize {
            return Err(ReferenceError::TooLong { tokens: tokens.len(), context });
        }
        let unknown = tokens.iter().copied().enumerate().find(|&(_, token)| u64::from(token) >= vocab);
        unknown.map_or(Ok(()), |(position, token)| Err(ReferenceError::Token { token, position, vocab }))
    }

    /// The rows of the embedding, as columns.
    fn embed(&self, tokens: &[u32]) -> Result<Columns, ReferenceError> {
        self.check(tokens)?;
        let mut hidden = Columns::zeros(self.numbers.hidden as usize, tokens.len());
        let mut row = vec![0.0; self.numbers.hidden as usize];
        for (position, &token) in tokens.iter().enumerate() {
            let id = u64::from(token);
            self.embedding.dequantize_rows_f32(id..id + 1, &mut row)?;
            for (channel, &value) in row.iter().enumerate() {
                let value = if self.stored.is_some() { half(value) } else { value };
                hidden.channel_mut(channel)[position] = value;
            }
        }
        Ok(hidden)
    }

    /// What a layer makes of the hidden states, in place.
    fn run(
        &self,
        layer: &Layer<'_>,
        rotation: &Rotation,
        hidden: &mut Columns,
    ) -> Result<(), ReferenceError> {
        let numbers = &self.numbers;
        let head_dim = numbers.head_dim as usize;
        let (q, kv) = (numbers.heads as usize * head_dim, numbers.kv_heads as usize * head_dim);
        let qkv = self.product(&layer.qkv, &self.norm(hidden, &layer.attn_norm)?)?;
        let (mut q, mut k, v) =
            (qkv.of_channels(0..q), qkv.of_channels(q..q + kv), qkv.of_channels(q + kv..q + 2 * kv));
        for turned in [&mut q, &mut k] {
            for head in 0..turned.channels() / head_dim {
                rotation.turn(turned.part_mut(head * head_dim..(head + 1) * head_dim));
            }
        }
        hidden.add(&self.product(&[layer.attn_output], &attention(numbers, &q, &k, &v))?);

        let ffn = numbers.ffn as usize;
        let gate_up = self.product(&layer.gate_up, &self.norm(hidden, &layer.ffn_norm)?)?;
        let mut gated = Columns::zeros(ffn, hidden.tokens());
        let (gate, up) = (gate_up.part(0..ffn), gate_up.part(ffn..2 * ffn));
        for ((into, &gate), &up) in gated.values_mut().iter_mut().zip(gate).zip(up) {
            *into = gate / (1.0 + libm::expf(-gate)) * up;
        }
        hidden.add(&self.product(&[layer.ffn_down], &gated)?);
        Ok(())
    }

    /// The products of several tensors with one input, one under the other.
    fn product(&self, tensors: &[Tensor<'_>], input: &Columns) -> Result<Columns, ReferenceError> {
        let rounding = self.stored.as_ref().map(|stored| stored.together(tensors)).transpose()?;
        let rounding = rounding.unwrap_or(Rounding::None);
        let rows: u64 = tensors.iter().map(Tensor::rows).sum();
        let mut all = Columns::zeros(rows as usize, input.tokens());
        let mut start = 0;
        for tensor in tensors {
            let part = product(tensor, &rounding, input)?;
            all.part_mut(start..start + part.channels()).copy_from_slice(part.values());
            start += part.channels();
        }
        Ok(all)
    }

    /// Each token divided by the root of its mean square, times the norm's weights. Sums in f64.
    fn norm(&self, hidden: &Columns, weights: &Tensor<'_>) -> Result<Columns, ReferenceError> {
        let mut scale = vec![0.0; hidden.channels()];
        weights.dequantize_rows_f32(0..1, &mut scale)?;
        if self.stored.is_some() {
            for weight in &mut scale {
                *weight = half(*weight);
            }
        }
        let stride = hidden.stride();
        let mut squares = vec![0.0; stride];
        for channel in hidden.values().chunks_exact(stride) {
            let square = |(sum, &value): (&mut f64, &f32)| *sum += f64::from(value) * f64::from(value);
            squares.iter_mut().zip(channel).for_each(square);
        }
        let mean = |square: f64| 1.0 / (square / hidden.channels() as f64 + self.numbers.epsilon).sqrt();
        let inverse: Vec<f64> = squares.into_iter().map(mean).collect();
        let mut normed = hidden.clone();
        for (channel, scale) in normed.values_mut().chunks_exact_mut(stride).zip(scale) {
            for (value, inverse) in channel.iter_mut().zip(&inverse) {
                *value = (f64::from(*value) * inverse * f64::from(scale)) as f32;
            }
        }
        Ok(normed)
    }
}
