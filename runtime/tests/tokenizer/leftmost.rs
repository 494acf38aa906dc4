//! SentencePiece's joins as llama.cpp has them: of all neighbours that spell a piece, the highest score, then the leftmost.

use std::collections::HashMap;

use anepipe_runtime::token::TokenId;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::files::{PLAIN, metadata, of_metadata, shared};

/// What text can become, found by looking at all neighbours for every join.
struct Pieces {
    /// Scores and ids.
    texts: HashMap<String, (f32, TokenId)>,
    bytes: Vec<TokenId>,
}

impl Pieces {
    fn new(metadata: &Value) -> Self {
        let list = |key: &str| metadata[key].as_array().expect("a list");
        let tokens = || list("tokenizer.ggml.tokens").iter().map(|token| token.as_str().expect("a text"));
        let scores =
            list("tokenizer.ggml.scores").iter().map(|score| score.as_f64().expect("a score") as f32);
        let types = list("tokenizer.ggml.token_type").iter().map(Value::as_u64);
        let tokens_of_text = tokens().zip(scores.zip(0..)).zip(types).filter(|(_, kind)| *kind == Some(1));
        let texts = tokens_of_text.map(|((text, entry), _)| (text.to_owned(), entry)).collect();
        let byte =
            |byte| tokens().position(|token| token == format!("<0x{byte:02X}>")).expect("a byte") as TokenId;
        Self { texts, bytes: (0..=255).map(byte).collect() }
    }

    fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut borders: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        loop {
            let mut best: Option<(f32, usize)> = None;
            for at in 1..borders.len() - 1 {
                if let Some(&(score, _)) = self.texts.get(&text[borders[at - 1]..borders[at + 1]])
                    && best.is_none_or(|(highest, _)| score > highest)
                {
                    best = Some((score, at));
                }
            }
            let Some((_, at)) = best else { break };
            borders.remove(at);
        }
        let parts = borders.windows(2).map(|border| &text[border[0]..border[1]]);
        parts
            .flat_map(|part| match self.texts.get(part) {
                Some(&(_, id)) => vec![id],
                None => part.bytes().map(|byte| self.bytes[usize::from(byte)]).collect(),
            })
            .collect()
    }
}

/// Texts of a trained vocabulary's own pieces and their beginnings, repeated: where joins compete.
#[test]
fn trained_vocabularies_join_the_leftmost() {
    for name in ["tokenizers/ggml-vocab-phi-3.gguf", "models/stories260K-llama-q8_0.gguf"] {
        let Some(path) = shared(name) else { continue };
        let metadata = metadata(&path);
        let (tokenizer, pieces) = (of_metadata(&metadata), Pieces::new(&metadata));
        let mut texts: Vec<&str> = pieces.texts.keys().map(String::as_str).collect();
        texts.sort_unstable();
        let part = (any::<prop::sample::Index>(), 1..9_usize, 1..6_usize).prop_map(|(nth, length, times)| {
            let text: String = nth.get(&texts).chars().take(length).collect();
            text.repeat(times)
        });
        let part = prop_oneof![4 => part, 1 => "[ ]{1,40}", 1 => "[-=a0\n]{1,20}"];
        proptest!(|(parts in prop::collection::vec(part, 1..6))| {
            let text = parts.concat();
            let expected = pieces.encode(&format!("▁{}", text.replace(' ', "▁")));
            prop_assert_eq!(tokenizer.encode(&text, PLAIN), expected, "{:?}", text);
        });
    }
}

/// A vocabulary of bytes, of what `joins` make of two letters, each with a score of its own, and of runs of `a` with one score.
/// The letter `c` is part of pieces, but none itself.
fn vocabulary(joins: &[(prop::sample::Index, prop::sample::Index)], runs: &[usize], scores: &[u16]) -> Value {
    let mut parts: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
    let mut pieces: Vec<String> = Vec::new();
    for (left, right) in joins {
        let piece = [left.get(&parts).as_str(), right.get(&parts).as_str()].concat();
        if piece.len() <= 10 && piece.contains(['b', 'c']) && !parts.contains(&piece) {
            parts.push(piece.clone());
            pieces.push(piece);
        }
    }
    let runs: Vec<String> = runs.iter().map(|&length| "a".repeat(length)).collect();
    let of_joins = scores[1..].iter().take(pieces.len());
    let scores: Vec<u16> = of_joins.chain(runs.iter().map(|_| &scores[0])).chain(&[0; 2]).copied().collect();
    pieces.extend(runs);
    pieces.extend(["a", "b"].map(str::to_owned));

    let types: Vec<u32> = [6; 256].into_iter().chain(pieces.iter().map(|_| 1)).collect();
    let tokens: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).chain(pieces).collect();
    let scores: Vec<u16> = [0; 256].into_iter().chain(scores).collect();
    json!({
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.add_bos_token": false,
        "tokenizer.ggml.add_space_prefix": false,
    })
}

proptest! {
    /// Pieces with several halvings, better ones inside worse ones and the other way round, runs of one score.
    #[test]
    fn no_vocabulary_needs_more_than_a_list(
        joins in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..14),
        runs in prop::sample::subsequence((2..12_usize).collect::<Vec<_>>(), 0..10),
        scores in prop::collection::hash_set(any::<u16>(), 16).prop_map(Vec::from_iter).prop_shuffle(),
        texts in prop::collection::vec("(a{1,30}|[abc]{1,16}){1,3}", 20),
    ) {
        let metadata = vocabulary(&joins, &runs, &scores);
        let (tokenizer, pieces) = (of_metadata(&metadata), Pieces::new(&metadata));
        for text in texts {
            prop_assert_eq!(tokenizer.encode(&text, PLAIN), pieces.encode(&text), "{:?}", text);
        }
    }
}
