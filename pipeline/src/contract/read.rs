//! Reading a contract from a model file.

use std::collections::HashSet;

use anepipe_gguf::Gguf;

use super::keys::{self, Keys};
use super::layout::{self, EMBEDDING, HEAD, OUTPUT_NORM, ROPE_FREQS, ROPE_LONG, ROPE_SHORT};
use super::rope::Rope;
use super::tokenizer::Tokenizer;
use super::{Architecture, Contract, ContractError, Head, Sourced};

impl Contract {
    /// The contract of the model in `gguf`, for shards of `context` positions. An error if a number is missing,
    /// contradicts another or a tensor, or asks for something that is not supported.
    pub fn read(gguf: &Gguf, context: u32) -> Result<Self, ContractError> {
        let architecture = architecture(gguf)?;
        let keys = Keys::new(gguf, architecture.value);
        keys.refuse_unknown()?;

        let context_length = keys.positive("context_length")?;
        if context == 0 || context > context_length.value {
            let Sourced { value: limit, source: key } = context_length;
            return Err(ContractError::Context { file: keys.file(), key, asked: context, limit });
        }
        let hidden = keys.positive("embedding_length")?;
        let layers = keys.positive("block_count")?;
        let ffn = keys.positive("feed_forward_length")?;
        let norm_eps = keys.positive_f32("attention.layer_norm_rms_epsilon")?;
        let heads = keys.positive("attention.head_count")?;
        let kv_heads = kv_heads(&keys, &heads)?;
        let head_dim = head_dim(&keys, &hidden, &heads)?;
        let rope = Rope::read(&keys, context, &head_dim)?;
        let tokenizer = Tokenizer::read(&keys)?;
        let vocab = vocab(&keys, &tokenizer)?;

        let contract = Self {
            schema: Self::SCHEMA,
            architecture,
            context,
            context_length,
            sliding_window: sliding_window(&keys, context)?,
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim,
            ffn,
            vocab,
            norm_eps,
            rope_dim: rope.dim,
            rope_base: rope.base,
            rope_factors: rope.factors,
            original_context: rope.original_context,
            attn_factor: rope.attn_factor,
            head: match gguf.tensor(HEAD) {
                Some(_) => Sourced::new(Head::Separate, HEAD),
                None => Sourced::new(Head::Tied, format!("no {HEAD}, so {EMBEDDING}")),
            },
            tokenizer,
        };
        contract.check_tensors(&keys)?;
        contract.tokenizer.check(&keys, contract.vocab.value)?;
        Ok(contract)
    }

    /// Holds the numbers against the tensors: every one there, of the right shape, and no other.
    fn check_tensors(&self, keys: &Keys<'_>) -> Result<(), ContractError> {
        let hidden = u64::from(self.hidden.value);
        let vocab = u64::from(self.vocab.value);
        // Grows only with tensors that were found, whatever the keys claim.
        let mut known = HashSet::from([ROPE_LONG.to_owned(), ROPE_SHORT.to_owned()]);
        if self.architecture.value == Architecture::Llama {
            known.insert(ROPE_FREQS.to_owned());
        }
        let mut check = |tensor: &str, expected: Vec<u64>, why: &'static str| {
            check_shape(keys, tensor, expected, why)?;
            known.insert(tensor.to_owned());
            Ok::<(), ContractError>(())
        };

        check(EMBEDDING, vec![vocab, hidden], "number of tokens, by hidden")?;
        check(OUTPUT_NORM, vec![hidden], "hidden")?;
        if self.head.value == Head::Separate {
            check(HEAD, vec![vocab, hidden], "number of tokens, by hidden")?;
        }
        for layer in 0..self.layers.value {
            for (_, tensor) in layout::layer_norms(layer) {
                check(&tensor, vec![hidden], "hidden")?;
            }
            for matrix in layout::layer_matrices(self, layer) {
                for part in matrix.parts {
                    check(&part.tensor, vec![part.rows, matrix.columns], part.why)?;
                }
            }
        }
        match keys.gguf().tensors().find(|tensor| !known.contains(tensor.name())) {
            None => Ok(()),
            Some(tensor) => Err(ContractError::UnexpectedTensor {
                file: keys.file(),
                tensor: tensor.name().to_owned(),
                architecture: keys.architecture(),
                found: tensor.shape(),
            }),
        }
    }
}

fn architecture(gguf: &Gguf) -> Result<Sourced<Architecture>, ContractError> {
    if let Some(Sourced { value, source }) = keys::optional::<&str>(gguf, "general.type")?
        && value != "model"
    {
        return Err(keys::unsupported(gguf, source, format!("{value:?}"), "\"model\""));
    }
    let Sourced { value: name, source } = keys::require::<&str>(gguf, "general.architecture")?;
    let Some(architecture) = Architecture::from_name(name) else {
        let supported = Architecture::ALL.map(Architecture::name).join(", ");
        return Err(keys::unsupported(gguf, source, format!("{name:?}"), supported));
    };
    Ok(Sourced::new(architecture, source))
}

/// By the GGUF specification, a model without the key has as many KV heads as heads. The shape of the key weights
/// confirms it.
fn kv_heads(keys: &Keys<'_>, heads: &Sourced<u32>) -> Result<Sourced<u32>, ContractError> {
    let key = "attention.head_count_kv";
    let kv_heads = match keys.optional::<u32>(key)? {
        Some(kv_heads) => kv_heads,
        None => Sourced::new(heads.value, format!("{} (no {})", heads.source, keys.name(key))),
    };
    if kv_heads.value == 0 || !heads.value.is_multiple_of(kv_heads.value) {
        let expected = format!("a divisor of {} ({})", heads.value, heads.source);
        return Err(keys.contradiction(kv_heads.source, expected, kv_heads.value));
    }
    Ok(kv_heads)
}

/// By the GGUF specification, a model without the key has heads as wide as hidden divided by heads. The shapes of the
/// attention weights confirm it.
fn head_dim(
    keys: &Keys<'_>,
    hidden: &Sourced<u32>,
    heads: &Sourced<u32>,
) -> Result<Sourced<u32>, ContractError> {
    let key = "attention.key_length";
    let head_dim = if keys.optional::<u32>(key)?.is_some() {
        keys.positive(key)?
    } else if hidden.value.is_multiple_of(heads.value) {
        let source = format!("{} / {} (no {})", hidden.source, heads.source, keys.name(key));
        Sourced::new(hidden.value / heads.value, source)
    } else {
        let expected = format!("a divisor of {} ({})", hidden.value, hidden.source);
        return Err(keys.contradiction(&heads.source, expected, heads.value));
    };
    if let Some(Sourced { value, source }) = keys.optional::<u32>("attention.value_length")?
        && value != head_dim.value
    {
        let supported = format!("values as wide as keys, {} ({})", head_dim.value, head_dim.source);
        return Err(keys.unsupported(source, value, supported));
    }
    Ok(head_dim)
}

/// The number of tokens, from the first of: the key, the list of tokens, the embedding. The others are held against it.
fn vocab(keys: &Keys<'_>, tokenizer: &Tokenizer) -> Result<Sourced<u32>, ContractError> {
    if keys.optional::<u32>("vocab_size")?.is_some() {
        return keys.positive("vocab_size");
    }
    if let Some(tokens) = tokenizer.tokens.value {
        return Ok(Sourced::new(tokens, tokenizer.tokens.source.clone()));
    }
    let rows = keys.gguf().tensor(EMBEDDING).map_or(0, |tensor| tensor.rows());
    let rows = u32::try_from(rows).ok().filter(|rows| *rows > 0);
    rows.map(|rows| Sourced::new(rows, EMBEDDING))
        .ok_or_else(|| ContractError::MissingKey { file: keys.file(), key: keys.name("vocab_size") })
}

/// Positions a token sees. 0 and an absent key mean all of them; a window as large as the context changes nothing.
fn sliding_window(keys: &Keys<'_>, context: u32) -> Result<Sourced<Option<u32>>, ContractError> {
    let key = "attention.sliding_window";
    match keys.optional::<u32>(key)? {
        None => Ok(Sourced::new(None, format!("no {}", keys.name(key)))),
        Some(Sourced { value: 0, source }) => Ok(Sourced::new(None, source)),
        Some(Sourced { value, source }) if value >= context => Ok(Sourced::new(Some(value), source)),
        Some(Sourced { value, source }) => {
            let supported =
                format!("0 or at least the context, {context}; ask for a context of at most {value}");
            Err(keys.unsupported(source, value, supported))
        }
    }
}

fn check_shape(
    keys: &Keys<'_>,
    name: &str,
    expected: Vec<u64>,
    why: &'static str,
) -> Result<(), ContractError> {
    let Some(tensor) = keys.gguf().tensor(name) else {
        return Err(ContractError::MissingTensor {
            file: keys.file(),
            tensor: name.to_owned(),
            architecture: keys.architecture(),
            expected,
        });
    };
    let found = tensor.shape();
    if found != expected {
        return Err(ContractError::Shape {
            file: keys.file(),
            tensor: name.to_owned(),
            expected,
            found,
            why,
        });
    }
    if !tensor.dtype().can_dequantize() {
        return Err(keys.unsupported(
            name,
            format!("of type {}", tensor.dtype()),
            "types that can be decoded; convert the model to Q8_0, F16 or a K type",
        ));
    }
    Ok(())
}
