//! Where things stand in a shard's interface.

use half::f16;

use super::cache::Cache;
use super::error::PassError;
use crate::device::{Port, Signature};
use crate::tensor::Tensor;

/// A shard's interface, understood: how many slots, how wide, how many positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassLayout {
    width: usize,
    block: usize,
    hidden: usize,
    attention: Option<Attention>,
}

/// The part of the interface that only a shard with attention has. The first four are input indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attention {
    pub(super) cos: usize,
    pub(super) sin: usize,
    pub(super) mask: usize,
    pub(super) write: usize,
    pub(super) context: usize,
    pub(super) half_dim: usize,
    pub(super) caches: Vec<Cache>,
}

impl PassLayout {
    /// Reads the roles off the ports' names and checks every shape against them. A shard without states is a head.
    pub fn from_signature(signature: &Signature) -> Result<Self, PassError> {
        if signature.states.is_empty() { Self::head(signature) } else { Self::layers(signature) }
    }

    /// Elements of a hidden state, `d`.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Slots, `T`.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Positions of the cache, `S`; none for a head, which has no positions.
    pub fn context(&self) -> Option<usize> {
        self.attention.as_ref().map(|attention| attention.context)
    }

    /// What `slot` holds in `output`: `d` elements of a layer shard, the shard's share of the vocabulary of a head.
    pub fn row<'a>(
        &self,
        output: &'a Tensor,
        slot: usize,
    ) -> Result<impl Iterator<Item = f16> + 'a, PassError> {
        let elements = output.data().len();
        if slot >= self.block || !elements.is_multiple_of(self.block) {
            return Err(PassError::Slot { slot, block: self.block, elements });
        }
        Ok(output.data().iter().skip(slot).step_by(self.block).copied())
    }

    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    pub(super) fn attention(&self) -> Option<&Attention> {
        self.attention.as_ref()
    }

    fn head(signature: &Signature) -> Result<Self, PassError> {
        let hidden = input(signature, "hidden")?;
        refuse_other_inputs(signature, &["hidden"])?;
        let (width, block) = columns(hidden.1)?;
        if signature.outputs.is_empty() {
            return Err(PassError::Outputs { found: 0, expected: "at least one" });
        }
        for port in &signature.outputs {
            if columns(port)?.1 != block {
                return Err(shape(port, format!("[1, rows, {block}, 1]")));
            }
        }
        Ok(Self { width, block, hidden: hidden.0, attention: None })
    }

    fn layers(signature: &Signature) -> Result<Self, PassError> {
        let [hidden, cos, sin, mask, write] = NAMES.map(|name| input(signature, name));
        let (hidden, cos, sin, mask, write) = (hidden?, cos?, sin?, mask?, write?);
        refuse_other_inputs(signature, &NAMES)?;
        let (width, block) = columns(hidden.1)?;

        let half_dim = match *cos.1.shape {
            [slots, half] if slots == block && half > 0 => half,
            _ => return Err(shape(cos.1, format!("[{block}, rope_dim / 2]"))),
        };
        expect(sin.1, &[block, half_dim])?;
        let context = match *mask.1.shape {
            [1, 1, slots, context] if slots == block && context > 0 => context,
            _ => return Err(shape(mask.1, format!("[1, 1, {block}, context]"))),
        };
        expect(write.1, &[1, 1, context, block])?;

        match &*signature.outputs {
            [output] => expect(output, &hidden.1.shape)?,
            outputs => {
                return Err(PassError::Outputs { found: outputs.len(), expected: "one: the hidden states" });
            }
        }
        let caches =
            signature.states.iter().map(|port| Cache::from_port(port, context)).collect::<Result<_, _>>()?;
        let attention =
            Attention { cos: cos.0, sin: sin.0, mask: mask.0, write: write.0, context, half_dim, caches };
        Ok(Self { width, block, hidden: hidden.0, attention: Some(attention) })
    }
}

const NAMES: [&str; 5] = ["hidden", "rope_cos", "rope_sin", "attn_mask", "kv_write_mask"];

fn input<'a>(signature: &'a Signature, name: &'static str) -> Result<(usize, &'a Port), PassError> {
    signature.inputs.iter().enumerate().find(|(_, port)| port.name == name).ok_or_else(|| {
        let found: Vec<&str> = signature.inputs.iter().map(|port| port.name.as_str()).collect();
        PassError::MissingInput { name, found: found.join(", ") }
    })
}

fn refuse_other_inputs(signature: &Signature, known: &[&str]) -> Result<(), PassError> {
    match signature.inputs.iter().find(|port| !known.contains(&port.name.as_str())) {
        Some(port) => Err(PassError::UnknownInput(port.name.clone())),
        None => Ok(()),
    }
}

/// Channels and slots of a `[1, channels, T, 1]` or `[1, channels, 1, T]` tensor; in memory the two are the same.
fn columns(port: &Port) -> Result<(usize, usize), PassError> {
    match *port.shape {
        [1, channels, block, 1] | [1, channels, 1, block] if channels > 0 && block > 0 => {
            Ok((channels, block))
        }
        _ => Err(shape(port, "[1, channels, slots, 1]".to_owned())),
    }
}

fn expect(port: &Port, expected: &[usize]) -> Result<(), PassError> {
    if port.shape == expected { Ok(()) } else { Err(shape(port, format!("{expected:?}"))) }
}

pub(super) fn shape(port: &Port, expected: String) -> PassError {
    PassError::Shape { name: port.name.clone(), expected, found: port.shape.clone() }
}
