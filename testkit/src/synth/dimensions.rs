//! The sizes of a model, and the presets.

/// The numbers that shape a phi3 model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimensions {
    /// What the model is called (`general.name`).
    pub name: &'static str,
    /// Length of a hidden state.
    pub hidden: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Length of a head.
    pub head_dim: u64,
    /// How much of a head is rotated; even.
    pub rope_dim: u64,
    /// Length of the feed-forward state.
    pub ffn: u64,
    /// Transformer layers.
    pub layers: u64,
    /// Tokens in the vocabulary.
    pub vocab: u64,
    /// Positions that the long rotary factors reach.
    pub context: u64,
    /// Positions that the model was first trained for, which the short factors serve.
    pub original_context: u64,
}

impl Dimensions {
    /// Phi-4-mini's: 32 layers of 100.67 M weights, and an embedding of 614.6 M.
    #[must_use]
    pub fn phi_4_mini() -> Self {
        Self {
            name: "phi-4-mini-synthetic",
            hidden: 3072,
            heads: 24,
            kv_heads: 8,
            head_dim: 128,
            rope_dim: 96,
            ffn: 8192,
            layers: 32,
            vocab: 200_064,
            context: 131_072,
            original_context: 4096,
        }
    }

    /// Everything that Phi-4-mini has, in 100 kB: grouped heads, a rotary width of three quarters of a head, long and
    /// short factors, tied embeddings.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            name: "tiny-synthetic",
            hidden: 64,
            heads: 8,
            kv_heads: 4,
            head_dim: 8,
            rope_dim: 6,
            ffn: 128,
            layers: 2,
            vocab: 384,
            context: 512,
            original_context: 128,
        }
    }

    /// Rows of the fused query, key and value weights.
    #[must_use]
    pub fn qkv(&self) -> u64 {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// What LongRoPE multiplies cosines and sines by: `sqrt(1 + ln(context / original) / ln(original))`, after the
    /// Phi-3 model of transformers (`_compute_longrope_parameters`). 1.190238 for Phi-4-mini.
    #[must_use]
    pub fn attn_factor(&self) -> f32 {
        let scale = self.context as f64 / self.original_context as f64;
        if scale <= 1.0 {
            return 1.0;
        }
        (1.0 + scale.ln() / (self.original_context as f64).ln()).sqrt() as f32
    }

    /// Weights in a layer, norms included.
    #[must_use]
    pub fn layer_weights(&self) -> u64 {
        self.hidden * (self.qkv() + self.heads * self.head_dim + 3 * self.ffn + 2)
    }
}
