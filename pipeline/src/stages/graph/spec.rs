//! What a graph is built from. Equal specs give equal bytes.

use serde::{Deserialize, Serialize};

use super::blobs::{BlobIdentity, Part, TensorKind};

/// How a graph is authored: layout, and who writes the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Hidden states `[1, d, T, 1]`, KV caches as states that the program updates by a mask.
    Stateful,
}

impl Style {
    /// The name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stateful => "stateful",
        }
    }
}

/// How matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// int8, one fp16 scale an output channel.
    Int8,
    /// int8, one fp16 scale a tensor.
    Int8PerTensor,
    /// fp16.
    F16,
}

impl From<crate::stages::quantize::Quantization> for Storage {
    fn from(quantization: crate::stages::quantize::Quantization) -> Self {
        use crate::stages::quantize::Quantization;
        match quantization {
            Quantization::Int8 => Self::Int8,
            Quantization::Int8PerTensor => Self::Int8PerTensor,
            Quantization::F16 => Self::F16,
        }
    }
}

/// A deliberate fault, for tests that gates catch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The attention output `[1, heads, T, head_dim]` is reshaped to `[1, d, T, 1]` without the permute before it, which
    /// interleaves positions into channels. Invisible at T = 1.
    NoPermute,
}

/// A shard's graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GraphSpec {
    /// Decoder layers.
    Layers(LayersSpec),
    /// A slice of the LM head.
    LmHead(HeadSpec),
}

/// Decoder layers. Slots count within the shard, so every shard of the same shape has the same graph.
///
/// Inputs, fp16, in this order: `hidden [1, d, T, 1]`, `rope_cos` and `rope_sin [T, rope_dim/2]`, `attn_mask [1, 1, T, S]`,
/// `kv_write_mask [1, 1, S, T]`. States, per slot i: `k_state_<i>`, `v_state_<i> [1, kv_heads, S, head_dim]`. Output:
/// `hidden_out [1, d, T, 1]`. Rotation is in `NeoX` style: the first half of the rotated channels with the second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayersSpec {
    /// How the graph is authored.
    pub style: Style,
    /// T, positions a pass: a function each, over one weight file.
    pub widths: Vec<u32>,
    /// d.
    pub hidden: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Channels a head.
    pub head_dim: u32,
    /// Inner channels of the feed-forward network.
    pub ffn: u32,
    /// Rotated channels a head; even, at most `head_dim`.
    pub rope_dim: u32,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// S, rows of the KV cache.
    pub context: u32,
    /// Layers in the shard.
    pub layers: u32,
    /// How matrices are stored.
    pub quantization: Storage,
    /// Whether the model's output norm follows the last layer.
    pub output_norm: bool,
    /// Whether the fused projection has a bias.
    pub qkv_bias: bool,
    /// A deliberate fault.
    pub fault: Option<Fault>,
}

/// A slice of the LM head: `hidden [1, d, T, 1]` to `logits [1, rows, T, 1]`. The output norm is in the last layer shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadSpec {
    /// How the graph is authored.
    pub style: Style,
    /// T, positions a pass: a function each, over one weight file.
    pub widths: Vec<u32>,
    /// d.
    pub hidden: u32,
    /// How the matrix is stored.
    pub quantization: Storage,
    /// Rows of the vocabulary.
    pub rows: u32,
}

/// A spec that no graph can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// An extent is zero or beyond anything a model has.
    #[error("{0} must be from 1 to {LARGEST_EXTENT}")]
    Extent(&'static str),
    /// No width, or one twice.
    #[error("the widths must be different positive integers, not {0:?}")]
    Widths(Vec<u32>),
    /// A head cannot be shared.
    #[error("{heads} heads cannot share {kv_heads} KV heads evenly")]
    Heads {
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
    },
    /// The rotated channels do not fit the head.
    #[error("rope_dim must be even and at most head_dim {head_dim}, not {rope_dim}")]
    Rope {
        /// Rotated channels.
        rope_dim: u32,
        /// Channels a head.
        head_dim: u32,
    },
    /// The block does not fit the cache.
    #[error("a block of {width} exceeds the context of {context}")]
    Context {
        /// The widest block.
        width: u32,
        /// Rows of the cache.
        context: u32,
    },
    /// Not a positive finite number.
    #[error("norm_eps must be a number above zero, not {0}")]
    Eps(String),
}

/// No tensor of a model comes near this; products of two fit in u64 with room.
const LARGEST_EXTENT: u32 = 1 << 24;

impl GraphSpec {
    /// T of each function.
    pub fn widths(&self) -> &[u32] {
        match self {
            Self::Layers(spec) => &spec.widths,
            Self::LmHead(spec) => &spec.widths,
        }
    }

    /// How matrices are stored.
    pub fn quantization(&self) -> Storage {
        match self {
            Self::Layers(spec) => spec.quantization,
            Self::LmHead(spec) => spec.quantization,
        }
    }

    /// Refuses what no graph can have, with the same rules as the Python side.
    pub fn check(&self) -> Result<(), SpecError> {
        let (extents, widths): (Vec<(&'static str, u32)>, _) = match self {
            Self::Layers(spec) => {
                spec.check_shape()?;
                (spec.extents(), &spec.widths)
            }
            Self::LmHead(spec) => (vec![("hidden", spec.hidden), ("rows", spec.rows)], &spec.widths),
        };
        for (name, extent) in extents {
            if !(1..=LARGEST_EXTENT).contains(&extent) {
                return Err(SpecError::Extent(name));
            }
        }
        let different = (1..widths.len()).all(|end| !widths[..end].contains(&widths[end]));
        if widths.is_empty() || !different || widths.iter().any(|width| !(1..=LARGEST_EXTENT).contains(width))
        {
            return Err(SpecError::Widths(widths.clone()));
        }
        Ok(())
    }

    /// The blobs the graph must ask for, in no order.
    pub(super) fn expected_blobs(&self) -> Vec<BlobIdentity> {
        let storage = self.quantization();
        match self {
            Self::LmHead(spec) => matrix(None, TensorKind::LmHead, spec.rows, spec.hidden, storage),
            Self::Layers(spec) => spec.expected_blobs(storage),
        }
    }
}

impl LayersSpec {
    fn extents(&self) -> Vec<(&'static str, u32)> {
        vec![
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("ffn", self.ffn),
            ("rope_dim", self.rope_dim),
            ("context", self.context),
            ("layers", self.layers),
        ]
    }

    fn check_shape(&self) -> Result<(), SpecError> {
        let Self { heads, kv_heads, rope_dim, head_dim, context, .. } = *self;
        if kv_heads == 0 || heads % kv_heads != 0 {
            return Err(SpecError::Heads { heads, kv_heads });
        }
        if rope_dim % 2 != 0 || rope_dim > head_dim {
            return Err(SpecError::Rope { rope_dim, head_dim });
        }
        if let Some(width) = self.widths.iter().copied().max().filter(|width| *width > context) {
            return Err(SpecError::Context { width, context });
        }
        if !self.norm_eps.is_finite() || self.norm_eps <= 0.0 {
            return Err(SpecError::Eps(self.norm_eps.to_string()));
        }
        Ok(())
    }

    fn expected_blobs(&self, storage: Storage) -> Vec<BlobIdentity> {
        let (hidden, queries) = (self.hidden, self.heads.saturating_mul(self.head_dim));
        let keys = self.kv_heads.saturating_mul(self.head_dim);
        let qkv = queries.saturating_add(keys.saturating_mul(2));
        let mut blobs = Vec::new();
        for slot in (0..self.layers).map(Some) {
            blobs.push(norm(slot, TensorKind::AttnNorm, hidden));
            blobs.extend(matrix(slot, TensorKind::Qkv, qkv, hidden, storage));
            if self.qkv_bias {
                blobs.push(BlobIdentity::new(slot, TensorKind::Qkv, Part::Bias, vec![qkv]));
            }
            blobs.extend(matrix(slot, TensorKind::AttnOutput, hidden, queries, storage));
            blobs.push(norm(slot, TensorKind::FfnNorm, hidden));
            blobs.extend(matrix(slot, TensorKind::GateUp, self.ffn.saturating_mul(2), hidden, storage));
            blobs.extend(matrix(slot, TensorKind::Down, hidden, self.ffn, storage));
        }
        if self.output_norm {
            blobs.push(norm(None, TensorKind::OutputNorm, hidden));
        }
        blobs
    }
}

fn norm(slot: Option<u32>, tensor: TensorKind, channels: u32) -> BlobIdentity {
    BlobIdentity::new(slot, tensor, Part::Weight, vec![channels])
}

fn matrix(
    slot: Option<u32>,
    tensor: TensorKind,
    rows: u32,
    columns: u32,
    storage: Storage,
) -> Vec<BlobIdentity> {
    let part = |part, shape| BlobIdentity::new(slot, tensor, part, shape);
    match storage {
        Storage::F16 => vec![part(Part::Weight, vec![rows, columns])],
        Storage::Int8 => vec![part(Part::Int8, vec![rows, columns]), part(Part::Scale, vec![rows])],
        Storage::Int8PerTensor => vec![part(Part::Int8, vec![rows, columns]), part(Part::Scale, vec![1])],
    }
}
