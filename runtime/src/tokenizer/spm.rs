//! SentencePiece's byte-pair encoding, as in Llama 2 and Phi-3: no list of merges, but a score for each piece.
//!
//! A text starts as its characters, with `▁` for a space; of all neighbours that make a piece, the ones with the highest score
//! are joined first, the leftmost of equal ones. What is no piece in the end is spelled in bytes. The rules are llama.cpp's
//! (`llm_tokenizer_spm_session`).
//!
//! A [`Merger`] wants a list. Every way to halve a piece is a merge, in the order of the pieces' scores. A list is stricter than
//! scores are, in two places:
//!
//! - It orders the halvings of one piece. That makes no difference: only one of them ever comes up. When a piece is due, nothing
//!   has been joined across its borders, so between them stands what joining its text alone comes to.
//! - It orders pieces of one score, of which llama.cpp joins the leftmost. No list can say that: with `ab` and `ba` in equal
//!   right, `ab` goes first in `aba`, and `ba` in `bab`. Trained vocabularies give one score to runs of spaces only; leftmost
//!   first, those grow by one from the left, and so they do if longer ones go first. Other files with one score are refused.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use tokenizers::models::bpe::{Merges, Vocab};

use super::merge::Merger;
use super::metadata::Metadata;
use super::vocabulary::{TokenKind, Vocabulary};
use super::{TokenizerError, keys};
use crate::token::TokenId;

/// Halving a piece of `n` bytes takes `n²` steps and at most as many bytes. All of Phi-3's take 1.7 million.
const MOST_STEPS: usize = 1 << 28;

/// The pieces and the order in which they are joined.
#[derive(Debug)]
pub(super) struct Spm {
    merger: Merger,
    /// Ids from here on are letters: parts of pieces, but no tokens.
    letters: TokenId,
    /// The token of each byte.
    bytes: Box<[TokenId; 256]>,
}

/// A piece in two halves.
#[derive(Debug, Clone, Copy)]
struct Halving<'t> {
    score: f32,
    id: TokenId,
    halves: (&'t str, &'t str),
}

impl Halving<'_> {
    /// Whether the piece is one character many times, as that of `other` is.
    fn is_run_like(&self, other: &Self) -> bool {
        let mut characters = [self.halves, other.halves].into_iter().flat_map(|(left, right)| [left, right]);
        let first = self.halves.0.chars().next();
        characters.all(|half| half.chars().all(|character| Some(character) == first))
    }
}

impl Spm {
    /// Reads the scores.
    pub(super) fn read(
        metadata: &Metadata<'_>,
        ids: &HashMap<&str, TokenId>,
        vocabulary: &Vocabulary,
    ) -> Result<Self, TokenizerError> {
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
        let bytes = Box::new(bytes.map(Option::unwrap_or_default));

        let halvings = halvings(metadata, ids, vocabulary)?;
        refuse_one_score(metadata, &halvings, vocabulary)?;
        // Llama.cpp joins by text, so a letter need not be a token to be part of one.
        let letters: BTreeSet<&str> = halvings
            .iter()
            .flat_map(|halving| [halving.halves.0, halving.halves.1])
            .filter(|half| !is_piece(half, ids, vocabulary))
            .collect();
        let tokens: Vocab = ids
            .iter()
            .map(|(&text, &id)| (text, id))
            .filter(|&(_, id)| vocabulary.is_written(id) || vocabulary.kind(id) == Some(TokenKind::Byte))
            .chain(letters.into_iter().zip(vocabulary.len()..))
            .map(|(text, id)| (text.to_owned(), id))
            .collect();
        let merges: Merges = halvings
            .iter()
            .map(|halving| (halving.halves.0.to_owned(), halving.halves.1.to_owned()))
            .collect();
        let merger =
            Merger::new(tokens, merges).map_err(|reason| metadata.malformed(keys::TOKENS, reason))?;
        Ok(Self { merger, letters: vocabulary.len(), bytes })
    }

    /// Appends the tokens of `text`, with a space before it if `prefix`.
    pub(super) fn encode(&self, text: &str, prefix: bool, ids: &mut Vec<TokenId>) {
        let mut escaped = String::with_capacity(text.len() + '▁'.len_utf8());
        if prefix {
            escaped.push('▁');
        }
        escaped.extend(text.chars().map(|character| if character == ' ' { '▁' } else { character }));

        let spelled = |bytes: &[u8], ids: &mut Vec<TokenId>| {
            ids.extend(bytes.iter().map(|&byte| self.bytes[usize::from(byte)]));
        };
        let Some(merged) = self.merger.merge(&escaped) else {
            // Not the model's tokens, but the text.
            return spelled(escaped.as_bytes(), ids);
        };
        for (id, part) in merged {
            if id < self.letters {
                ids.push(id);
            } else {
                spelled(part, ids);
            }
        }
    }
}

/// Whether text may become the token `text`.
fn is_piece(text: &str, ids: &HashMap<&str, TokenId>, vocabulary: &Vocabulary) -> bool {
    ids.get(text).is_some_and(|&id| vocabulary.is_written(id))
}

/// All ways to halve pieces into pieces or single characters, in the order of joining.
fn halvings<'t>(
    metadata: &Metadata<'_>,
    ids: &HashMap<&'t str, TokenId>,
    vocabulary: &Vocabulary,
) -> Result<Vec<Halving<'t>>, TokenizerError> {
    let scores: Vec<f32> = metadata.required(keys::SCORES)?;
    if scores.len() != vocabulary.len() as usize {
        let reason = format!("it has {} entries for {} tokens", scores.len(), vocabulary.len());
        return Err(metadata.malformed(keys::SCORES, reason));
    }
    let pieces = || ids.iter().map(|(&text, &id)| (text, id)).filter(|&(_, id)| vocabulary.is_written(id));
    let steps = pieces().fold(0, |steps: usize, (text, _)| steps.saturating_add(text.len().pow(2)));
    if steps > MOST_STEPS {
        let longest = pieces().map(|(text, _)| text.len()).max().unwrap_or(0);
        let reason = format!("its pieces are too long to be joined, the longest of {longest} bytes");
        return Err(metadata.malformed(keys::TOKENS, reason));
    }
    let mut halvings = Vec::with_capacity(2 * ids.len());
    for (text, id) in pieces() {
        let is_part = |half: &str| is_piece(half, ids, vocabulary) || half.chars().nth(1).is_none();
        for halves in text.char_indices().skip(1).map(|(at, _)| text.split_at(at)) {
            if is_part(halves.0) && is_part(halves.1) {
                // Adding zero makes −0 and 0 one score.
                halvings.push(Halving { score: scores[id as usize] + 0.0, id, halves });
            }
        }
    }
    halvings.sort_unstable_by(|a, b| {
        let rest = |halving: &Halving<'_>| {
            let (left, right) = halving.halves;
            (Reverse(left.len() + right.len()), halving.id, left.len())
        };
        b.score.total_cmp(&a.score).then_with(|| rest(a).cmp(&rest(b)))
    });
    Ok(halvings)
}

/// Refuses pieces of one score that are not runs of one character. Inseparable pieces may have one: they are cut out of a text
/// before anything is joined.
fn refuse_one_score(
    metadata: &Metadata<'_>,
    halvings: &[Halving<'_>],
    vocabulary: &Vocabulary,
) -> Result<(), TokenizerError> {
    let mut ordered = halvings.iter().filter(|halving| vocabulary.kind(halving.id) == Some(TokenKind::Text));
    let Some(mut before) = ordered.next() else { return Ok(()) };
    for halving in ordered {
        let one_score = halving.score.total_cmp(&before.score).is_eq() && halving.id != before.id;
        if one_score && !halving.is_run_like(before) {
            let text = |halving: &Halving<'_>| [halving.halves.0, halving.halves.1].concat();
            let reason = format!(
                "tokens {} and {}, {:?} and {:?}, both have {}, so it does not say which is to be joined first",
                before.id,
                halving.id,
                text(before),
                text(halving),
                halving.score,
            );
            return Err(metadata.malformed(keys::SCORES, reason));
        }
        before = halving;
    }
    Ok(())
}
