//! llama.cpp's own test vectors: texts that went wrong somewhere once, and the ids of the vocabularies' first encoders.

use anepipe_runtime::token::TokenId;
use anepipe_runtime::tokenizer::{Encode, Tokenizer};

use crate::files::{PLAIN, of_gguf, shared};

/// The texts of an `.inp` file and the ids of an `.out` file.
pub(crate) fn vectors(texts: &str, ids: &str) -> Option<Vec<(String, Vec<TokenId>)>> {
    let (texts, ids) = (shared(texts)?, shared(ids)?);
    let texts = std::fs::read_to_string(texts).expect("text");
    let ids = std::fs::read_to_string(ids).expect("text");
    let texts: Vec<&str> = texts.split_terminator("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<Vec<TokenId>> = ids
        .lines()
        .map(|line| line.split_whitespace().map(|id| id.parse().expect("an id")).collect())
        .collect();
    assert_eq!((texts.len(), ids.len()), (46, 46));
    Some(texts.into_iter().map(str::to_owned).zip(ids).collect())
}

/// Every text gives its ids, and the ids give the text.
pub(crate) fn hold(tokenizer: &Tokenizer, vectors: &[(String, Vec<TokenId>)]) {
    for (text, ids) in vectors {
        assert_eq!(&tokenizer.encode(text, PLAIN), ids, "{text:?}");
        assert_eq!(&tokenizer.decode(ids).expect("known ids"), text);
        stream_gives_the_same(tokenizer, ids);
    }
}

/// A stream gives whole characters, and in the end what decoding at once gives.
pub(crate) fn stream_gives_the_same(tokenizer: &Tokenizer, ids: &[TokenId]) {
    let mut stream = tokenizer.stream();
    let mut text = String::new();
    for &id in ids {
        text.push_str(&stream.push(id).expect("a known id"));
    }
    text.push_str(&stream.finish());
    assert_eq!(text, tokenizer.decode(ids).expect("known ids"));
}

#[test]
fn gpt_2_agrees() {
    let Some(path) = shared("tokenizers/ggml-vocab-gpt-2.gguf") else { return };
    let Some(vectors) =
        vectors("tokenizers/ggml-vocab-gpt-2.gguf.inp", "tokenizers/ggml-vocab-gpt-2.gguf.out")
    else {
        return;
    };
    hold(&of_gguf(&path), &vectors);
}

#[test]
fn phi_3_agrees() {
    let Some(path) = shared("tokenizers/ggml-vocab-phi-3.gguf") else { return };
    let Some(vectors) =
        vectors("tokenizers/ggml-vocab-phi-3.gguf.inp", "tokenizers/ggml-vocab-phi-3.gguf.out")
    else {
        return;
    };
    hold(&of_gguf(&path), &vectors);
}

#[test]
fn phi_3_knows_its_control_tokens_and_its_ends() {
    let Some(path) = shared("tokenizers/ggml-vocab-phi-3.gguf") else { return };
    let tokenizer = of_gguf(&path);
    assert_eq!((tokenizer.vocabulary(), tokenizer.bos(), tokenizer.eos()), (32064, Some(1), Some(32000)));
    // </s>, <|endoftext|> and <|end|>; <|assistant|> begins a turn.
    let ends: Vec<TokenId> = (0..tokenizer.vocabulary()).filter(|&id| tokenizer.is_end(id)).collect();
    assert_eq!(ends, [2, 32000, 32007]);

    let text = "<|user|>Hi<|end|>";
    let own = Encode { parse_special: true, add_special: true };
    assert_eq!(tokenizer.encode(text, own), [1, 32010, 6324, 32007]);
    assert_eq!(tokenizer.decode(&[1, 32010, 6324, 32007]).unwrap(), "Hi");
    // The same from a user is text, also the one that the file calls user-defined.
    for text in [text, "</s>", "a</s>b", "<s><0x0A>"] {
        let ids = tokenizer.encode(text, PLAIN);
        assert!(ids.iter().all(|id| (3..32000).contains(id)), "{text:?} {ids:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}
