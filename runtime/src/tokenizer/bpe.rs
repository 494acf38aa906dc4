//! Byte-level byte-pair encoding: GPT-2's way, and that of every vocabulary whose file has a list of merges.
//!
//! A text is cut into words by a [`Splitter`]; a word starts as its bytes, and pairs are joined in the order of the list. The
//! rules are llama.cpp's (`llm_tokenizer_bpe_session`), which agrees with the vocabularies' own encoders.

use std::collections::HashMap;

use super::alphabet;
use super::merge::{Join, Symbol, merge};
use super::metadata::{Metadata, Text};
use super::split::Splitter;
use super::vocabulary::Vocabulary;
use super::{TokenizerError, keys};
use crate::token::TokenId;

/// The merges of a vocabulary.
#[derive(Debug)]
pub(super) struct Bpe {
    splitter: Splitter,
    /// The token of each byte.
    bytes: Box<[TokenId; 256]>,
    joins: HashMap<(TokenId, TokenId), Join>,
}

impl Bpe {
    /// Reads the list of merges and checks that it speaks of tokens of the vocabulary.
    pub(super) fn read(
        metadata: &Metadata<'_>,
        ids: &HashMap<&str, TokenId>,
        vocabulary: &Vocabulary,
    ) -> Result<Self, TokenizerError> {
        let splitter = Splitter::read(metadata)?;
        let mut bytes = Box::new([None; 256]);
        for (text, &id) in ids.iter().filter(|&(_, &id)| vocabulary.is_written(id)) {
            if let Some(byte) = alphabet::decode_byte(text) {
                bytes[usize::from(byte)] = Some(id);
            }
        }
        if let Some(byte) = bytes.iter().position(Option::is_none) {
            return Err(metadata.malformed(keys::TOKENS, format!("no token is the byte 0x{byte:02x}")));
        }
        let bytes = Box::new(bytes.map(Option::unwrap_or_default));

        let merges: Vec<Text<'_>> = metadata.required(keys::MERGES)?;
        let mut joins = HashMap::with_capacity(merges.len());
        let mut joined = String::new();
        for (rank, merge) in merges.iter().enumerate() {
            let merge: &str = merge;
            let malformed =
                |reason| metadata.malformed(keys::MERGES, format!("entry {rank}, {merge:?}, {reason}"));
            let (left, right) =
                merge.split_once(' ').ok_or_else(|| malformed("is not two tokens with a space between"))?;
            joined.clear();
            joined.extend([left, right]);
            let token = |text: &str| {
                let id = ids.get(text).copied().filter(|&id| vocabulary.is_written(id));
                id.ok_or_else(|| malformed("speaks of what is no token of text"))
            };
            let join = Join { rank: rank as u32, token: token(&joined)? };
            // A pair that is listed twice goes by its first place.
            joins.entry((token(left)?, token(right)?)).or_insert(join);
        }
        Ok(Self { splitter, bytes, joins })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<TokenId>) {
        for word in self.splitter.split(text) {
            let bytes = word.bytes().enumerate().map(|(start, byte)| Symbol {
                start,
                end: start + 1,
                token: Some(self.bytes[usize::from(byte)]),
            });
            let join = |left: &Symbol, right: &Symbol| self.joins.get(&(left.token?, right.token?)).copied();
            ids.extend(merge(bytes, join).filter_map(|symbol| symbol.token));
        }
    }
}
