//! SentencePiece's byte-pair encoding, as in Llama 2 and Phi-3: no list of merges, but a score for each token.
//!
//! A text starts as its characters, with `▁` for a space; of all neighbours that make a token, the ones with the highest score
//! are joined first. What is no token in the end is spelled in bytes. The rules are llama.cpp's (`llm_tokenizer_spm_session`).

use std::collections::HashMap;

use super::merge::{Join, Symbol, merge};
use super::metadata::Metadata;
use super::vocabulary::{TokenKind, Vocabulary};
use super::{TokenizerError, keys};
use crate::token::TokenId;

/// The tokens by their texts and scores.
#[derive(Debug)]
pub(super) struct Spm {
    tokens: HashMap<Box<str>, Join>,
    /// The token of each byte.
    bytes: Box<[TokenId; 256]>,
}

impl Spm {
    /// Reads the scores.
    pub(super) fn read(
        metadata: &Metadata<'_>,
        ids: &HashMap<&str, TokenId>,
        vocabulary: &Vocabulary,
    ) -> Result<Self, TokenizerError> {
        let scores: Vec<f32> = metadata.required(keys::SCORES)?;
        if scores.len() != vocabulary.len() as usize {
            let reason = format!("it has {} entries for {} tokens", scores.len(), vocabulary.len());
            return Err(metadata.malformed(keys::SCORES, reason));
        }
        let ranks = ranks(&scores);
        let tokens = ids
            .iter()
            .filter(|&(_, &id)| vocabulary.is_written(id))
            .map(|(&text, &id)| (text.into(), Join { rank: ranks[id as usize], token: id }))
            .collect();
        let mut bytes = Box::new([None; 256]);
        for (id, _) in vocabulary.kinds().filter(|&(_, kind)| kind == TokenKind::Byte) {
            if let Some(&[byte]) = vocabulary.piece(id) {
                bytes[usize::from(byte)] = Some(id);
            }
        }
        if let Some(byte) = bytes.iter().position(Option::is_none) {
            let reason = format!("no token is the byte <0x{byte:02X}>, which spells what is no token");
            return Err(metadata.malformed(keys::TOKENS, reason));
        }
        Ok(Self { tokens, bytes: Box::new(bytes.map(Option::unwrap_or_default)) })
    }

    /// Appends the tokens of `text`, with a space before it if `prefix`.
    pub(super) fn encode(&self, text: &str, prefix: bool, ids: &mut Vec<TokenId>) {
        let mut escaped = String::with_capacity(text.len() + '▁'.len_utf8());
        if prefix {
            escaped.push('▁');
        }
        escaped.extend(text.chars().map(|character| if character == ' ' { '▁' } else { character }));

        let token = |start: usize, end: usize| self.tokens.get(&escaped[start..end]).copied();
        let characters = escaped.char_indices().map(|(start, character)| {
            let end = start + character.len_utf8();
            Symbol { start, end, token: token(start, end).map(|join| join.token) }
        });
        for symbol in merge(characters, |left, right| token(left.start, right.end)) {
            match symbol.token {
                Some(id) => ids.push(id),
                None => ids.extend(
                    escaped[symbol.start..symbol.end].bytes().map(|byte| self.bytes[usize::from(byte)]),
                ),
            }
        }
    }
}

/// The place of each score among all of them, highest first; equal scores share one.
fn ranks(scores: &[f32]) -> Vec<u32> {
    // Adding zero makes −0 and 0 one score.
    let mut order: Vec<f32> = scores.iter().map(|score| score + 0.0).collect();
    order.sort_by(|a, b| b.total_cmp(a));
    order.dedup_by(|a, b| a.total_cmp(b).is_eq());
    let rank = |score: &f32| order.partition_point(|higher| higher.total_cmp(&(score + 0.0)).is_gt()) as u32;
    scores.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_score_has_the_first_rank() {
        assert_eq!(ranks(&[-1.0, 5.0, 0.0, -0.0, 5.0, f32::NEG_INFINITY]), [2, 0, 1, 1, 0, 3]);
    }
}
