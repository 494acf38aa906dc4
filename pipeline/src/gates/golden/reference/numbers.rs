//! The numbers of a model, read from the file's metadata by this module alone.
//!
//! The build reads the same keys in `contract`. This is a second reading on purpose, by other code, after the description of the
//! format and llama.cpp's behaviour: one misreading must not end up on both sides of the comparison.

use std::fmt::Display;

use anepipe_gguf::{FromValue, Gguf, Tensor};

use super::ReferenceError;
use super::tensors::{expect_shape, file_of};

/// What a frequency may be divided by: one list for every context …
const ROPE_FREQS: &str = "rope_freqs.weight";
/// … or one for contexts up to the original one …
const ROPE_SHORT: &str = "rope_factors_short.weight";
/// … and one for longer contexts.
const ROPE_LONG: &str = "rope_factors_long.weight";

/// Names of all tensors with divisors of frequencies.
pub(super) const ROPE_TENSORS: [&str; 3] = [ROPE_FREQS, ROPE_SHORT, ROPE_LONG];

/// Keys that are read below or hold nothing that is computed with. Any other key of the architecture is refused.
const KNOWN: [&str; 23] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.causal",
    "expert_count",
    "expert_used_count",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    // These two tell how the model and the file were made.
    "rope.scaling.finetuned",
    "tensor_data_layout",
];

/// How a layer is laid out in tensors and which dims turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// `attn_qkv` is q, k, v; `ffn_up` is gate, up; dims `i` and `i + dim / 2` turn together.
    Phi3,
    /// One tensor each; dims `2i` and `2i + 1` turn together.
    Llama,
}

/// Everything that a forward needs to know besides weights.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    pub(super) architecture: Architecture,
    pub(super) context: u32,
    pub(super) layers: u32,
    pub(super) hidden: u64,
    pub(super) ffn: u64,
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) head_dim: u64,
    pub(super) epsilon: f64,
    pub(super) rope: RopeNumbers,
}

/// How positions turn queries and keys.
#[derive(Debug, Clone)]
pub(super) struct RopeNumbers {
    /// Dims of a head that turn; the rest pass through.
    pub(super) dim: u64,
    pub(super) base: f64,
    /// `dim / 2` divisors of the frequencies; none divides by one.
    pub(super) divisors: Option<Vec<f32>>,
    /// What cosines and sines are multiplied by.
    pub(super) attn_factor: f64,
}

impl Numbers {
    /// Those of `gguf`, run with room for `context` positions.
    pub(super) fn read(gguf: &Gguf, context: u32) -> Result<Self, ReferenceError> {
        let name = gguf.metadata().string("general.architecture")?;
        let architecture = match name {
            "phi3" => Architecture::Phi3,
            "llama" => Architecture::Llama,
            other => {
                let found = other.to_owned();
                return Err(ReferenceError::Architecture { file: file_of(gguf), found });
            }
        };
        let keys = Keys { gguf, prefix: format!("{name}.") };
        keys.refuse()?;
        keys.check_context(context)?;
        let (hidden, heads) = (keys.count("embedding_length")?, keys.count("attention.head_count")?);
        let kv_heads = match keys.optional::<u32>("attention.head_count_kv")? {
            None => heads,
            Some(0) => return Err(keys.bad("attention.head_count_kv", 0, "at least 1")),
            Some(kv_heads) => u64::from(kv_heads),
        };
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of the number of heads, {heads}");
            return Err(keys.bad("attention.head_count_kv", kv_heads, expected));
        }
        let head_dim = match keys.optional::<u32>("attention.key_length")? {
            Some(_) => keys.count("attention.key_length")?,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let expected = format!("a divisor of embedding_length, {hidden}, or attention.key_length");
                return Err(keys.bad("attention.head_count", heads, expected));
            }
        };
        if let Some(value) = keys.optional::<u32>("attention.value_length")?
            && u64::from(value) != head_dim
        {
            let expected = format!("the length of keys, {head_dim}");
            return Err(keys.bad("attention.value_length", value, expected));
        }
        Ok(Self {
            architecture,
            context,
            layers: keys.count("block_count")? as u32,
            hidden,
            ffn: keys.count("feed_forward_length")?,
            heads,
            kv_heads,
            head_dim,
            epsilon: keys.positive("attention.layer_norm_rms_epsilon")?,
            rope: keys.rope(context, head_dim)?,
        })
    }
}

/// The keys of one architecture in one file.
struct Keys<'a> {
    gguf: &'a Gguf,
    prefix: String,
}

impl<'a> Keys<'a> {
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn optional<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, ReferenceError> {
        Ok(self.gguf.metadata().optional(&self.key(key))?)
    }

    fn bad(&self, key: &str, found: impl Display, expected: impl Into<String>) -> ReferenceError {
        self.bad_value(self.key(key), found, expected)
    }

    fn bad_value(&self, key: String, found: impl Display, expected: impl Into<String>) -> ReferenceError {
        let (found, expected) = (found.to_string(), expected.into());
        ReferenceError::Value { file: file_of(self.gguf), key, found, expected }
    }

    /// A number above 0 that must be there.
    fn count(&self, key: &str) -> Result<u64, ReferenceError> {
        match self.gguf.metadata().u32(&self.key(key))? {
            0 => Err(self.bad(key, 0, "at least 1")),
            value => Ok(u64::from(value)),
        }
    }

    /// A finite number above 0 that must be there.
    fn positive(&self, key: &str) -> Result<f64, ReferenceError> {
        let value = self.gguf.metadata().f32(&self.key(key))?;
        if value.is_finite() && value > 0.0 {
            return Ok(f64::from(value));
        }
        Err(self.bad(key, value, "a finite number above 0"))
    }

    /// Refuses what would change the result and is not computed.
    fn refuse(&self) -> Result<(), ReferenceError> {
        let mut keys = self.gguf.metadata().iter().map(|(key, _)| key);
        let unknown = keys
            .find(|key| key.strip_prefix(self.prefix.as_str()).is_some_and(|rest| !KNOWN.contains(&rest)));
        if let Some(key) = unknown {
            return Err(ReferenceError::UnknownKey { file: file_of(self.gguf), key: key.to_owned() });
        }
        for key in ["expert_count", "expert_used_count"] {
            if let Some(count @ 1..) = self.optional::<u32>(key)? {
                return Err(self.bad(key, count, "0, for the reference has no experts"));
            }
        }
        if self.optional("attention.causal")? == Some(false) {
            return Err(self.bad("attention.causal", false, "true"));
        }
        for key in ["rope.scaling.factor", "rope.scale_linear"] {
            if let Some(factor) = self.optional::<f32>(key)?
                && !matches!(factor, 0.0 | 1.0)
            {
                return Err(self.bad(key, factor, "1, for the reference scales no positions"));
            }
        }
        Ok(())
    }

    fn check_context(&self, context: u32) -> Result<(), ReferenceError> {
        let longest = self.count("context_length")?;
        if context == 0 || u64::from(context) > longest {
            let expected = format!("at least 1 and at least the context asked for, {context}");
            return Err(self.bad("context_length", longest, expected));
        }
        match self.optional::<u32>("attention.sliding_window")? {
            Some(window) if window > 0 && window < context => {
                let expected = format!("0 or at least the context asked for, {context}");
                Err(self.bad("attention.sliding_window", window, expected))
            }
            _ => Ok(()),
        }
    }

    fn rope(&self, context: u32, head_dim: u64) -> Result<RopeNumbers, ReferenceError> {
        let dim = self.count("rope.dimension_count")?;
        if dim % 2 == 1 || dim > head_dim {
            let expected = format!("an even number of at most {head_dim}, the head's width");
            return Err(self.bad("rope.dimension_count", dim, expected));
        }
        let tensor = |name| self.gguf.tensor(name);
        let original = || self.count("rope.scaling.original_context_length");
        let (divisors, stretched) = match (tensor(ROPE_FREQS), tensor(ROPE_SHORT), tensor(ROPE_LONG)) {
            (None, None, None) => (None, false),
            (Some(always), None, None) => (Some(always), false),
            (None, Some(short), Some(_)) if u64::from(context) <= original()? => (Some(short), true),
            (None, Some(_), Some(long)) => (Some(long), true),
            (freqs, short, long) => {
                let here: Vec<&str> = [freqs, short, long].iter().flatten().map(Tensor::name).collect();
                let expected = format!("{ROPE_FREQS} alone, or both {ROPE_SHORT} and {ROPE_LONG}");
                return Err(self.bad_value(
                    "rope factors".to_owned(),
                    format!("given as {}", here.join(" and ")),
                    expected,
                ));
            }
        };
        match self.optional::<&str>("rope.scaling.type")? {
            None | Some("none") => {}
            Some("longrope") if stretched => {}
            Some(other) => {
                let expected = "\"none\", or \"longrope\" with factors in tensors";
                return Err(self.bad("rope.scaling.type", format!("{other:?}"), expected));
            }
        }
        let attn_factor = match self.optional::<f32>("rope.scaling.attn_factor")? {
            None if !stretched => 1.0,
            _ => self.positive("rope.scaling.attn_factor")?,
        };
        Ok(RopeNumbers {
            dim,
            base: self.positive("rope.freq_base")?,
            divisors: divisors.map(|tensor| self.divisors(&tensor, dim / 2)).transpose()?,
            attn_factor,
        })
    }

    fn divisors(&self, tensor: &Tensor<'_>, count: u64) -> Result<Vec<f32>, ReferenceError> {
        expect_shape(self.gguf, tensor, &[count], "half of rope.dimension_count")?;
        let mut divisors = vec![0.0; count as usize];
        tensor.dequantize_rows_f32(0..1, &mut divisors)?;
        match divisors.iter().position(|divisor| !(divisor.is_finite() && *divisor > 0.0)) {
            None => Ok(divisors),
            Some(index) => Err(self.bad_value(
                format!("{}[{index}]", tensor.name()),
                divisors[index],
                "a finite number above 0",
            )),
        }
    }
}
