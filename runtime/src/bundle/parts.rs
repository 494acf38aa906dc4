//! What a session loads, as plain paths and numbers: from a shipped bundle, or from what a build has before it ships.

use std::ops::Range;
use std::path::PathBuf;

use serde_json::Value;

use super::manifest::{Manifest, Role, ShardEntry};
use super::{Bundle, BundleError};
use crate::rope::RopeSpec;

/// Everything a session of the whole model loads.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// safetensors with `embedding`, fp16 `[vocab, hidden]`.
    pub embedding: PathBuf,
    /// Compiled decoder layers, in the order in which hidden states pass; the last ends with the output norm. At least one.
    pub layers: Vec<PathBuf>,
    /// Compiled slices of the LM head, in vocabulary order without gap or overlap. At least one.
    pub heads: Vec<HeadPart>,
    /// What rotary tables are made of.
    pub rope: RopeSpec,
    /// Tokens a pass can take: one function `t<width>` of every shard each, or `main` where there is one.
    pub widths: Vec<u32>,
    /// Tokens a pass verifies, T; one of `widths`.
    pub block: u32,
    /// Positions the KV cache holds, S.
    pub context: u32,
    /// Width of the residual stream, d.
    pub hidden: u32,
    /// Tokens: rows of the embedding, and of all heads together.
    pub vocab: u32,
    /// Tokenizer metadata (`tokenizer.json`).
    pub tokenizer: PathBuf,
}

/// One compiled slice of the LM head: `hidden [1, d, T, 1]` to `logits [1, rows, T, 1]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadPart {
    /// The `.mlmodelc` folder.
    pub path: PathBuf,
    /// The tokens whose logits it gives. Never empty.
    pub rows: Range<u32>,
}

impl Bundle {
    /// What a session loads from this bundle. An error if the bundle holds some layers only, or if its manifest
    /// contradicts itself: whatever wrote it, shards must cover the model exactly and in order.
    pub fn parts(&self) -> Result<Parts, BundleError> {
        let manifest = self.manifest();
        let partial = |lacks: String| BundleError::Partial { path: self.root().to_owned(), lacks };
        let malformed = |reason: String| BundleError::Malformed { path: self.root().to_owned(), reason };
        let number = |key: &str| {
            number(&manifest.contract, key)
                .ok_or_else(|| malformed(format!("its contract has no {key} that is a number above 0")))
        };
        let (hidden, vocab, layers) = (number("hidden")?, number("vocab")?, number("layers")?);
        if manifest.block == 0 || !manifest.widths.contains(&manifest.block) || manifest.widths.contains(&0) {
            let (block, widths) = (manifest.block, &manifest.widths);
            return Err(malformed(format!("its block of {block} tokens is none of its widths {widths:?}")));
        }
        if manifest.widths.iter().any(|&width| width > manifest.context) {
            let (widths, context) = (&manifest.widths, manifest.context);
            return Err(malformed(format!(
                "its widths {widths:?} exceed its context of {context} positions"
            )));
        }
        let covers = [("layers", Role::Layers, layers), ("vocabulary rows", Role::LmHead, vocab)];
        for (what, role, end) in covers {
            match cover(manifest, role, end) {
                Ok(()) => {}
                Err(Gap::Lacks(missing)) => {
                    return Err(partial(format!("{what} {}..{}", missing.start, missing.end)));
                }
                Err(Gap::Contradicts(path)) => {
                    let reason = format!("{what} of {path} do not follow those of the shard before it");
                    return Err(malformed(reason));
                }
            }
        }
        let table = |path: &Option<String>, what: &str| match path {
            Some(path) => self.resolve(path),
            None => Err(partial(what.to_owned())),
        };
        let shards = |role| manifest.shards.iter().filter(move |shard| shard.role == role);
        let head = |shard: &ShardEntry| {
            Ok(HeadPart { path: self.resolve(&shard.path)?, rows: shard.range[0]..shard.range[1] })
        };
        Ok(Parts {
            embedding: table(&manifest.embedding, "the embedding's rows")?,
            layers: shards(Role::Layers).map(|shard| self.resolve(&shard.path)).collect::<Result<_, _>>()?,
            heads: shards(Role::LmHead).map(head).collect::<Result<_, BundleError>>()?,
            rope: manifest.rope.clone(),
            widths: manifest.widths.clone(),
            block: manifest.block,
            context: manifest.context,
            hidden,
            vocab,
            tokenizer: table(&manifest.tokenizer, "the tokenizer's tokens")?,
        })
    }
}

/// A number of the contract, which keeps each as `{"value": …, "source": …}`.
fn number(contract: &Value, key: &str) -> Option<u32> {
    let value = contract.get(key)?.get("value")?.as_u64()?;
    u32::try_from(value).ok().filter(|&value| value > 0)
}

/// Why the shards of a role do not cover what they should.
enum Gap {
    /// Part of the model is in no shard.
    Lacks(Range<u32>),
    /// The shard with this path is empty, overlaps, is out of order, or goes beyond the end.
    Contradicts(String),
}

/// Whether the shards of `role` cover `0..end` exactly and in order.
fn cover(manifest: &Manifest, role: Role, end: u32) -> Result<(), Gap> {
    let mut missing = None;
    let mut covered = 0;
    for shard in manifest.shards.iter().filter(|shard| shard.role == role) {
        let [first, last] = shard.range;
        if first < covered || first >= last || last > end {
            return Err(Gap::Contradicts(shard.path.clone()));
        }
        if first > covered {
            missing = missing.or(Some(covered..first));
        }
        covered = last;
    }
    let rest = (covered < end).then_some(covered..end);
    missing.or(rest).map_or(Ok(()), |missing| Err(Gap::Lacks(missing)))
}
