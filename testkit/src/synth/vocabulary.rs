//! A byte-level vocabulary of any size: every text can be written with it, and every merge can be reached.
//!
//! Laid out like that of Phi-4-mini: the 256 bytes, then what merges make, and at the end 65 ids for control tokens, of
//! which six are used. So the control tokens keep their distance from the end whatever the size, and have Phi-4-mini's
//! own ids at its own size of 200,064.

use crate::{GgufWriter, Value};

/// Ids kept at the end for control tokens.
const RESERVED: usize = 65;

/// The smallest vocabulary: the bytes and the control tokens.
pub(crate) const SMALLEST: u64 = 256 + RESERVED as u64;

/// The control tokens, by their distance from the end.
const CONTROL: [(usize, &str); 6] = [
    (65, "<|endoftext|>"),
    (46, "<|endofprompt|>"),
    (45, "<|assistant|>"),
    (44, "<|end|>"),
    (43, "<|user|>"),
    (42, "<|system|>"),
];

/// `llama_token_type` of llama.cpp.
const NORMAL: i32 = 1;
const CONTROL_TYPE: i32 = 3;
const UNUSED: i32 = 5;

/// The metadata of the tokenizer of `size` tokens, [`SMALLEST`] or more, in order.
pub(crate) fn metadata(size: u64) -> Vec<(&'static str, Value)> {
    let merged = usize::try_from(size).unwrap_or(usize::MAX).saturating_sub(SMALLEST as usize);
    let alphabet = alphabet();
    let mut tokens: Vec<String> = alphabet.iter().map(char::to_string).collect();
    let mut merges = Vec::with_capacity(merged);
    for (left, right) in pairs().take(merged) {
        let right = alphabet[right];
        let left: String = left.into_iter().flatten().map(|byte| alphabet[byte]).collect();
        merges.push(format!("{left} {right}"));
        tokens.push(format!("{left}{right}"));
    }
    let mut types = vec![NORMAL; tokens.len()];
    for from_end in (1..=RESERVED).rev() {
        let control = CONTROL.iter().find(|(place, _)| *place == from_end);
        tokens.push(
            control.map_or_else(
                || format!("<|unused_{}|>", RESERVED - from_end),
                |(_, name)| (*name).to_owned(),
            ),
        );
        types.push(if control.is_some() { CONTROL_TYPE } else { UNUSED });
    }
    let id = |from_end: u64| Value::U32((size - from_end) as u32);
    vec![
        ("tokenizer.ggml.model", "gpt2".into()),
        ("tokenizer.ggml.pre", "gpt-4o".into()),
        ("tokenizer.ggml.tokens", tokens.into()),
        ("tokenizer.ggml.token_type", types.into()),
        ("tokenizer.ggml.merges", merges.into()),
        ("tokenizer.ggml.bos_token_id", id(65)),
        ("tokenizer.ggml.eos_token_id", id(65)),
        ("tokenizer.ggml.eot_token_id", id(44)),
        ("tokenizer.ggml.unknown_token_id", id(65)),
        ("tokenizer.ggml.padding_token_id", id(65)),
        ("tokenizer.ggml.add_bos_token", false.into()),
    ]
}

/// Adds the vocabulary to a file of metadata alone, as llama.cpp's converter writes with `--vocab-only`.
#[must_use]
pub fn vocabulary_only(size: u64) -> GgufWriter {
    let writer = GgufWriter::new().meta("general.architecture", "phi3");
    metadata(size.max(SMALLEST)).into_iter().fold(writer, |writer, (key, value)| writer.meta(key, value))
}

/// What merges join: a byte with a byte, in every way, and then each of those pairs with a byte. Bytes are given by
/// their places in the alphabet.
fn pairs() -> impl Iterator<Item = ([Option<usize>; 2], usize)> {
    let bytes = || (0..256).flat_map(|left| (0..256).map(move |right| (left, right)));
    let two = bytes().map(|(left, right)| ([Some(left), None], right));
    let three =
        bytes().flat_map(|(left, middle)| (0..256).map(move |right| ([Some(left), Some(middle)], right)));
    two.chain(three)
}

/// GPT-2's alphabet: a visible character for each byte, in the order of its vocabulary. Bytes that are visible in
/// Latin-1 stand for themselves and come first; the others get the characters from U+0100 on (`bytes_to_unicode` of
/// GPT-2's encoder.py).
fn alphabet() -> Vec<char> {
    let visible = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let (shown, hidden): (Vec<u8>, Vec<u8>) = (0..=u8::MAX).partition(visible);
    let stand_ins = ('\u{100}'..).take(hidden.len());
    shown.into_iter().map(char::from).chain(stand_ins).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn strings(key: &str, size: u64) -> Vec<String> {
        let (_, value) = metadata(size).into_iter().find(|(name, _)| *name == key).unwrap();
        let Value::Array(_, items) = value else { panic!("{key} is no array") };
        items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => text,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_alphabet_is_gpt_2s() {
        let alphabet = alphabet();
        // First and last of GPT-2's vocabulary of bytes, and the well-known Ġ for a space.
        assert_eq!((alphabet[0], alphabet[93], alphabet[187], alphabet[255]), ('!', '~', 'ÿ', '\u{143}'));
        assert_eq!(alphabet[188 + 32], 'Ġ');
        assert_eq!(alphabet.iter().collect::<HashSet<_>>().len(), 256);
    }

    #[test]
    fn tokens_are_as_many_as_asked_for_and_all_different() {
        for size in [SMALLEST, 384, 5000, 200_064] {
            let tokens = strings("tokenizer.ggml.tokens", size);
            assert_eq!(tokens.len() as u64, size);
            assert_eq!(tokens.iter().collect::<HashSet<_>>().len() as u64, size);
            assert_eq!(strings("tokenizer.ggml.merges", size).len() as u64, size - SMALLEST);
        }
    }

    #[test]
    fn every_merge_joins_two_tokens_that_come_before_it_into_one_that_there_is() {
        let tokens = strings("tokenizer.ggml.tokens", 70_000);
        let mut known: HashSet<String> = tokens[..256].iter().cloned().collect();
        for (merge, token) in strings("tokenizer.ggml.merges", 70_000).iter().zip(&tokens[256..]) {
            let (left, right) = merge.split_once(' ').unwrap();
            assert!(known.contains(left) && known.contains(right), "{merge}");
            assert_eq!(format!("{left}{right}"), *token);
            known.insert(token.clone());
        }
    }

    #[test]
    fn control_tokens_have_phi_4_minis_ids_at_its_size() {
        let tokens = strings("tokenizer.ggml.tokens", 200_064);
        let ids = [
            (199_999, "<|endoftext|>"),
            (200_018, "<|endofprompt|>"),
            (200_019, "<|assistant|>"),
            (200_020, "<|end|>"),
            (200_021, "<|user|>"),
            (200_022, "<|system|>"),
        ];
        for (id, name) in ids {
            assert_eq!(tokens[id], name);
        }
    }
}
