//! Byte-level byte-pair encoding: GPT-2's way, and that of every vocabulary whose file has a list of merges.
//!
//! A text is cut into words by a [`Splitter`]; a word starts as its bytes, each written as a character, and pairs are joined in
//! the order of the list. The rules are llama.cpp's (`llm_tokenizer_bpe_session`), which agrees with the vocabularies' own
//! encoders.

use std::collections::{HashMap, HashSet};

use tokenizers::models::bpe::{Merges, Vocab};

use super::alphabet;
use super::merge::Merger;
use super::metadata::{Metadata, Text};
use super::split::Splitter;
use super::vocabulary::Vocabulary;
use super::{TokenizerError, keys};
use crate::token::TokenId;

/// The merges of a vocabulary.
#[derive(Debug)]
pub(super) struct Bpe {
    splitter: Splitter,
    /// The character and the token of each byte.
    bytes: Box<[(char, TokenId); 256]>,
    merger: Merger,
}

impl Bpe {
    /// Reads the list of merges and checks that it speaks of tokens of the vocabulary.
    pub(super) fn read(
        metadata: &Metadata<'_>,
        ids: &HashMap<&str, TokenId>,
        vocabulary: &Vocabulary,
    ) -> Result<Self, TokenizerError> {
        let splitter = Splitter::read(metadata)?;
        let written =
            || ids.iter().map(|(&text, &id)| (text, id)).filter(|&(_, id)| vocabulary.is_written(id));
        let mut bytes = Box::new([None; 256]);
        for (text, id) in written() {
            if let Some((byte, character)) = alphabet::decode_byte(text) {
                bytes[usize::from(byte)] = Some((character, id));
            }
        }
        if let Some(byte) = bytes.iter().position(Option::is_none) {
            return Err(metadata.malformed(keys::TOKENS, format!("no token is the byte 0x{byte:02x}")));
        }
        let bytes = Box::new(bytes.map(Option::unwrap_or_default));

        let merges = merges(metadata, ids, vocabulary)?;
        let tokens: Vocab = written().map(|(text, id)| (text.to_owned(), id)).collect();
        let merger =
            Merger::new(tokens, merges).map_err(|reason| metadata.malformed(keys::MERGES, reason))?;
        Ok(Self { splitter, bytes, merger })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<TokenId>) {
        let mut written = String::new();
        for word in self.splitter.split(text) {
            let bytes = word.bytes().map(|byte| self.bytes[usize::from(byte)]);
            written.clear();
            written.extend(bytes.clone().map(|(character, _)| character));
            match self.merger.merge(&written) {
                Some(merged) => ids.extend(merged.map(|(id, _)| id)),
                // Not the model's tokens, but the text.
                None => ids.extend(bytes.map(|(_, id)| id)),
            }
        }
    }
}

/// The list of merges, each pair once.
fn merges(
    metadata: &Metadata<'_>,
    ids: &HashMap<&str, TokenId>,
    vocabulary: &Vocabulary,
) -> Result<Merges, TokenizerError> {
    let list: Vec<Text<'_>> = metadata.required(keys::MERGES)?;
    let mut merges = Merges::with_capacity(list.len());
    let mut seen = HashSet::with_capacity(list.len());
    let mut joined = String::new();
    for (rank, merge) in list.iter().enumerate() {
        let merge: &str = merge;
        let malformed =
            |reason| metadata.malformed(keys::MERGES, format!("entry {rank}, {merge:?}, {reason}"));
        let (left, right) =
            merge.split_once(' ').ok_or_else(|| malformed("is not two tokens with a space between"))?;
        joined.clear();
        joined.extend([left, right]);
        for text in [&joined, left, right] {
            if !ids.get(text).is_some_and(|&id| vocabulary.is_written(id)) {
                return Err(malformed("speaks of what is no token of text"));
            }
        }
        // A pair that is listed twice goes by its first place.
        if seen.insert((left, right)) {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(merges)
}
