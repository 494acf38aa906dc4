//! The vocabulary of Phi-4-mini and GPT-4o, from the published list of ranks: a file of every token's bytes, best first.
//!
//! The list has no merges. A token's merge is found by encoding its bytes with the tokens before it only: two parts remain.

use std::collections::HashMap;

use anepipe_runtime::tokenizer::Tokenizer;
use serde_json::json;

use crate::files::{of_metadata, shared};
use crate::llama_cpp::{hold, vectors};

/// The bytes that print stand for themselves, the rest for characters from 256 on: GPT-2's encoder.py.
fn alphabet() -> Vec<char> {
    let mut rest = 256..;
    let prints = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let code = |byte: u8| if prints(byte) { u32::from(byte) } else { rest.next().expect("endless") };
    (0..=u8::MAX).map(code).map(|code| char::from_u32(code).expect("a character")).collect()
}

/// The bytes of a line `<base64> <rank>`, whose rank is its place.
fn token(line: &str) -> Vec<u8> {
    let digits = line.split(' ').next().expect("a first word");
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        (bits, held) = (bits << 6 | u32::from(value), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

/// The two parts that `token` is merged from.
fn parts<'t>(token: &'t [u8], ranks: &HashMap<&[u8], usize>) -> Option<(&'t [u8], &'t [u8])> {
    let below = ranks[token];
    let mut borders: Vec<usize> = (0..=token.len()).collect();
    while borders.len() > 3 {
        let pairs = borders.windows(3).enumerate();
        let ranked = pairs.filter_map(|(at, pair)| Some((*ranks.get(&token[pair[0]..pair[2]])?, at)));
        let (_, at) = ranked.filter(|&(rank, _)| rank < below).min()?;
        borders.remove(at + 1);
    }
    (borders.len() == 3).then(|| token.split_at(borders[1]))
}

fn o200k() -> Option<Tokenizer> {
    let list = std::fs::read_to_string(shared("tokenizers/o200k_base.tiktoken")?).expect("text");
    let tokens: Vec<Vec<u8>> = list.lines().map(token).collect();
    let ranks: HashMap<&[u8], usize> = tokens.iter().map(Vec::as_slice).zip(0..).collect();
    let alphabet = alphabet();
    let written = |bytes: &[u8]| bytes.iter().map(|&byte| alphabet[usize::from(byte)]).collect::<String>();
    let merge = |token: &Vec<u8>| {
        let (left, right) = parts(token, &ranks)?;
        Some(format!("{} {}", written(left), written(right)))
    };
    let merges: Vec<String> = tokens.iter().filter_map(merge).collect();
    assert_eq!(merges.len(), tokens.len() - 256, "every token but the bytes is a merge of two");
    let mut texts: Vec<String> = tokens.iter().map(|token| written(token)).collect();
    let mut types = vec![1; texts.len()];
    texts.push("<|endoftext|>".to_owned());
    types.push(3);
    Some(of_metadata(&json!({
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-4o",
        "tokenizer.ggml.eos_token_id": texts.len() - 1,
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
    })))
}

#[test]
fn gpt_4o_agrees() {
    let Some(vectors) =
        vectors("tokenizers/ggml-vocab-gpt-2.gguf.inp", "tokenizers/ggml-vocab-gpt-4o.gguf.out")
    else {
        return;
    };
    let Some(tokenizer) = o200k() else { return };
    hold(&tokenizer, &vectors);
}
