//! Rotary embedding: which dims turn, how fast, and how that is stretched for long contexts.

use anepipe_gguf::Tensor;

use super::keys::Keys;
use super::layout::{ROPE_FREQS, ROPE_LONG, ROPE_SHORT};
use super::{ContractError, Sourced};

/// What a contract says of the rotary embedding.
pub(super) struct Rope {
    pub(super) dim: Sourced<u32>,
    pub(super) base: Sourced<f32>,
    pub(super) factors: Sourced<Option<Vec<f32>>>,
    pub(super) original_context: Sourced<Option<u32>>,
    pub(super) attn_factor: Sourced<f32>,
}

impl Rope {
    /// Reads it for a context and a head width.
    pub(super) fn read(
        keys: &Keys<'_>,
        context: u32,
        head_dim: &Sourced<u32>,
    ) -> Result<Self, ContractError> {
        let dim = keys.positive("rope.dimension_count")?;
        if !dim.value.is_multiple_of(2) {
            return Err(keys.contradiction(dim.source, "an even number, for dims turn in pairs", dim.value));
        }
        if dim.value > head_dim.value {
            let expected = format!("at most {}, the head width ({})", head_dim.value, head_dim.source);
            return Err(keys.contradiction(dim.source, expected, dim.value));
        }
        let base = keys.positive_f32("rope.freq_base")?;
        let original = keys.optional::<u32>("rope.scaling.original_context_length")?;
        let factors = factors(keys, context, dim.value, original.as_ref())?;
        check_scaling(keys, &factors)?;

        let attn_factor = match keys.optional("rope.scaling.attn_factor")? {
            Some(factor) => {
                keys.check_positive(&factor)?;
                factor
            }
            None if matches!(factors.source.as_str(), ROPE_LONG | ROPE_SHORT) => {
                let key = keys.name("rope.scaling.attn_factor");
                return Err(ContractError::MissingKey { file: keys.file(), key });
            }
            None => {
                let source =
                    format!("no {} and no {ROPE_LONG}: unscaled", keys.name("rope.scaling.attn_factor"));
                Sourced::new(1.0, source)
            }
        };
        let original_context = original.map_or_else(
            || Sourced::new(None, format!("no {}", keys.name("rope.scaling.original_context_length"))),
            |original| Sourced::new(Some(original.value), original.source),
        );
        Ok(Self { dim, base, factors, original_context, attn_factor })
    }
}

/// The divisors of the frequencies that apply to a context.
///
/// llama.cpp's rule: `rope_freqs.weight` always; else the long factors beyond the original context, else the short ones.
fn factors(
    keys: &Keys<'_>,
    context: u32,
    dim: u32,
    original: Option<&Sourced<u32>>,
) -> Result<Sourced<Option<Vec<f32>>>, ContractError> {
    let tensor = |name| keys.gguf().tensor(name);
    match (tensor(ROPE_FREQS), tensor(ROPE_LONG), tensor(ROPE_SHORT)) {
        (None, None, None) => {
            Ok(Sourced::new(None, format!("no {ROPE_LONG}, {ROPE_SHORT} or {ROPE_FREQS}: undivided")))
        }
        (Some(always), None, None) => read_factors(keys, &always, ROPE_FREQS, dim),
        (None, Some(long), Some(short)) => {
            let original = original.ok_or_else(|| ContractError::MissingKey {
                file: keys.file(),
                key: keys.name("rope.scaling.original_context_length"),
            })?;
            // Both are read, so that a broken one is found whatever the context.
            let long = read_factors(keys, &long, ROPE_LONG, dim)?;
            let short = read_factors(keys, &short, ROPE_SHORT, dim)?;
            Ok(if context <= original.value { short } else { long })
        }
        (None, Some(_), None) => Err(alone(keys, ROPE_LONG, ROPE_SHORT)),
        (None, None, Some(_)) => Err(alone(keys, ROPE_SHORT, ROPE_LONG)),
        (Some(_), ..) => Err(keys.contradiction(
            ROPE_FREQS,
            format!("to be the only factors, or {ROPE_LONG} and {ROPE_SHORT} to be"),
            "beside others",
        )),
    }
}

fn alone(keys: &Keys<'_>, present: &str, absent: &str) -> ContractError {
    keys.contradiction(present, format!("to come with {absent}"), "alone")
}

fn read_factors(
    keys: &Keys<'_>,
    tensor: &Tensor<'_>,
    name: &'static str,
    dim: u32,
) -> Result<Sourced<Option<Vec<f32>>>, ContractError> {
    let expected = vec![u64::from(dim / 2)];
    if tensor.shape() != expected {
        return Err(ContractError::Shape {
            file: keys.file(),
            tensor: name.to_owned(),
            expected,
            found: tensor.shape(),
            why: "half of rope.dimension_count",
        });
    }
    // As long as the tensor, whose data are in the file.
    let mut values = vec![0.0; tensor.row_len() as usize];
    tensor.dequantize_rows_f32(0..1, &mut values)?;
    if let Some((index, value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite() || **v <= 0.0) {
        return Err(keys.contradiction(format!("{name}[{index}]"), "a finite number above 0", value));
    }
    Ok(Sourced::new(Some(values), name))
}

/// Refuses ways of stretching that are not built: only factors in tensors are.
fn check_scaling(keys: &Keys<'_>, factors: &Sourced<Option<Vec<f32>>>) -> Result<(), ContractError> {
    if let Some(Sourced { value, source }) = keys.optional::<&str>("rope.scaling.type")? {
        match value {
            "none" => {}
            "longrope" if factors.value.is_some() => {}
            "longrope" => {
                let expected = format!("to come with {ROPE_LONG} and {ROPE_SHORT}");
                return Err(keys.contradiction(source, expected, "\"longrope\" without them"));
            }
            other => return Err(keys.unsupported(source, format!("{other:?}"), "\"none\" and \"longrope\"")),
        }
    }
    for key in ["rope.scaling.factor", "rope.scale_linear"] {
        if let Some(Sourced { value, source }) = keys.optional::<f32>(key)?
            && value != 0.0
            && (value - 1.0).abs() > 0.0
        {
            let supported = "1 (linear scaling is not built; factors in tensors are)";
            return Err(keys.unsupported(source, value, supported));
        }
    }
    Ok(())
}
