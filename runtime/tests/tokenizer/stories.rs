//! A small SentencePiece vocabulary: every text comes back.

use anepipe_runtime::tokenizer::{Encode, Tokenizer};
use proptest::prelude::*;

use crate::files::{PLAIN, of_gguf, shared};
use crate::llama_cpp::stream_gives_the_same;

fn stories() -> Option<Tokenizer> {
    Some(of_gguf(&shared("models/stories260K-llama-q8_0.gguf")?))
}

#[test]
fn a_text_begins_with_its_token_and_a_space_that_nobody_sees() {
    let Some(tokenizer) = stories() else { return };
    let ids = tokenizer.encode("Once upon a time", Encode { add_special: true, parse_special: false });
    assert_eq!((ids[0], tokenizer.piece(ids[1]).unwrap()[0]), (1, b' '));
    assert_eq!(tokenizer.decode(&ids).unwrap(), "Once upon a time");

    // What follows a prompt keeps its space.
    let more = tokenizer.encode("there was", PLAIN);
    let mut stream = tokenizer.stream_after(&ids);
    let text: String = more.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(text + &stream.finish(), " there was");
}

#[test]
fn characters_beyond_the_vocabulary_are_spelled_in_bytes() {
    let Some(tokenizer) = stories() else { return };
    let ids = tokenizer.encode("🙂", PLAIN);
    // ▁, then four bytes: byte 0 is token 3.
    assert_eq!(ids[1..], [0xf0 + 3, 0x9f + 3, 0x99 + 3, 0x82 + 3]);
    let mut stream = tokenizer.stream();
    let parts: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(parts, ["", "", "", "", "🙂"]);
    // Cut short, it is no character; a stream says so when it is asked to end.
    let mut stream = tokenizer.stream();
    assert!(ids[..3].iter().all(|&id| stream.push(id).unwrap().is_empty()));
    assert_eq!(stream.finish(), "\u{fffd}");
}

#[test]
fn every_text_comes_back() {
    let Some(tokenizer) = stories() else { return };
    proptest!(|(text in "(\\PC|[ \n\t▁a-z]|<0x0A>|</s>|<s>){0,40}")| {
        let ids = tokenizer.encode(&text, PLAIN);
        // A space and the sign that stands for it in the file are one to SentencePiece.
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.replace('▁', " "));
        prop_assert!(!ids.iter().any(|&id| id < 3), "{:?}", ids);
    });
}

#[test]
fn any_ids_are_text_and_streamed_the_same() {
    let Some(tokenizer) = stories() else { return };
    proptest!(|(ids in prop::collection::vec(0u32..512, 0..40))| {
        stream_gives_the_same(&tokenizer, &ids);
        // Control tokens aside, it is the pieces' bytes, read as UTF-8 where they are.
        let text: Vec<u32> = ids.into_iter().filter(|&id| id >= 3).collect();
        let bytes: Vec<u8> = text.iter().flat_map(|&id| tokenizer.piece(id).unwrap().to_owned()).collect();
        // The space before a text is no part of it, unless it is spelled as a byte.
        let spelled = text.first().is_some_and(|&id| id < 3 + 256);
        let bytes = bytes.strip_prefix(b" ").filter(|_| !spelled).unwrap_or(&bytes);
        prop_assert_eq!(tokenizer.decode(&text).unwrap(), String::from_utf8_lossy(bytes));
    });
}
