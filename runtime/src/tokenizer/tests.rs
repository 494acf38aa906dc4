//! Small vocabularies: what is refused, and what no file and no text may do.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PLAIN: Encode = Encode { parse_special: false, add_special: false };
const OWN: Encode = Encode { parse_special: true, add_special: true };

/// 256 bytes, a few merges, `<|end|>` (262, control) and `<think>` (263, user-defined).
fn gpt2() -> Value {
    let bytes = (0..0x144).filter_map(char::from_u32).map(String::from);
    let mut tokens: Vec<String> = bytes.filter(|text| alphabet::decode_byte(text).is_some()).collect();
    assert_eq!(tokens.len(), 256);
    tokens.extend(["ab", "bc", "abc", "Ġa", "ĠĠ", "aa", "<|end|>", "<think>"].map(str::to_owned));
    let mut types = vec![1; 262];
    types.extend([3, 4]);
    json!({
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": ["b c", "a b", "a bc", "Ġ a", "Ġ Ġ", "a a"],
        "tokenizer.ggml.eos_token_id": 262,
    })
}

/// `<unk>`, `<s>`, `</s>`, 256 bytes, and a few pieces from 259 on.
fn llama() -> Value {
    let pieces = [
        ("▁", -9.0),
        ("a", -8.0),
        ("b", -8.0),
        ("ab", -2.0),
        ("▁a", -3.0),
        ("aa", -1.0),
        ("</", -4.0),
        ("s>", -5.0),
    ];
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(pieces.iter().map(|(text, _)| (*text).to_owned()));
    let mut scores = vec![0.0; 259];
    scores.extend(pieces.iter().map(|(_, score)| *score));
    let mut types = vec![2, 3, 3];
    types.extend([6; 256]);
    types.extend(pieces.iter().map(|_| 1));
    json!({
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    })
}

fn parse(metadata: &Value) -> Result<Tokenizer, TokenizerError> {
    let file = json!({"schema": 1, "metadata": metadata}).to_string();
    Tokenizer::parse(Path::new("tokenizer.json"), file.as_bytes())
}

/// What each token of `text` says.
fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(text, PLAIN);
    ids.iter().map(|&id| String::from_utf8_lossy(tokenizer.piece(id).unwrap()).into_owned()).collect()
}

#[test]
fn merges_go_by_their_place_in_the_list_and_from_the_left() {
    let tokenizer = parse(&gpt2()).unwrap();
    let cases: &[(&str, &[&str])] = &[
        // "b c" comes before "a b".
        ("abc", &["abc"]),
        ("ab", &["ab"]),
        ("abbc", &["ab", "bc"]),
        ("aaa", &["aa", "a"]),
        ("aaab", &["aa", "ab"]),
        ("x  a", &["x", " ", " a"]),
        ("", &[]),
        ("é", &["\u{fffd}", "\u{fffd}"]),
    ];
    for (text, expected) in cases {
        assert_eq!(&pieces(&tokenizer, text), expected, "{text:?}");
    }
}

#[test]
fn scores_go_highest_first_and_from_the_left() {
    let tokenizer = parse(&llama()).unwrap();
    let cases: &[(&str, &[&str])] =
        &[("ab", &[" ", "ab"]), ("a", &[" a"]), ("aaa", &[" ", "aa", "a"]), ("aaab", &[" ", "aa", "ab"])];
    for (text, expected) in cases {
        assert_eq!(&pieces(&tokenizer, text), expected, "{text:?}");
    }
}

#[test]
fn control_tokens_are_read_only_where_they_are_allowed() {
    let tokenizer = parse(&gpt2()).unwrap();
    assert_eq!(tokenizer.encode("a<|end|>a", OWN), [64, 262, 64]);
    assert_eq!(tokenizer.encode("a<|end|>a", PLAIN).len(), 9);
    // What the vocabulary's authors defined as inseparable always is.
    assert_eq!(tokenizer.encode("<think>", PLAIN), [263]);
    assert_eq!(tokenizer.decode(&[64, 262, 263]).unwrap(), "a<think>");

    // Two pieces that would join into a control token do not.
    let tokenizer = parse(&llama()).unwrap();
    assert_eq!(pieces(&tokenizer, "</s>"), [" ", "</", "s>"]);
    assert_eq!(tokenizer.encode("</s>", OWN), [1, 2]);
}

#[test]
fn tokens_are_added_as_keys_say_else_as_the_kind_does() {
    let first_and_last = |metadata: Value| parse(&metadata).unwrap().encode("", OWN);
    assert_eq!(first_and_last(gpt2()), [0; 0]);
    assert_eq!(first_and_last(llama()), [1]);
    let mut metadata = llama();
    metadata[keys::ADD_BOS] = false.into();
    metadata[keys::ADD_EOS] = true.into();
    assert_eq!(first_and_last(metadata), [2]);
    let mut metadata = gpt2();
    metadata[keys::ADD_BOS] = true.into();
    metadata[keys::BOS] = 262.into();
    assert_eq!(first_and_last(metadata), [262]);
}

#[test]
fn without_a_list_of_kinds_names_tell_them() {
    let mut metadata = llama();
    metadata.as_object_mut().unwrap().remove(keys::TOKEN_TYPE);
    let tokenizer = parse(&metadata).unwrap();
    assert_eq!(tokenizer.encode("é", PLAIN), [259, 0xc3 + 3, 0xa9 + 3]);
    assert_eq!(tokenizer.decode(&[0xc3 + 3, 0xa9 + 3, 2]).unwrap(), "é");
}

#[test]
fn a_control_token_ends_the_character_before_it() {
    let tokenizer = parse(&llama()).unwrap();
    let mut stream = tokenizer.stream();
    let said: Vec<String> = [0xf0 + 3, 1, 0x9f + 3, 260].map(|id| stream.push(id).unwrap()).into();
    assert_eq!(said, ["", "\u{fffd}", "\u{fffd}", "a"]);
}

#[test]
fn each_fault_of_a_file_is_refused_by_its_key() {
    type Fault = fn(&mut Value);
    let gpt2_faults: &[(&str, Fault)] = &[
        (r#"tokenizer.ggml.model is "bert", and anepipe knows "gpt2" and "llama""#, |m| {
            m[keys::MODEL] = "bert".into();
        }),
        (r#"tokenizer.ggml.pre is "qwen2""#, |m| m[keys::PRE] = "qwen2".into()),
        ("no tokenizer.ggml.pre", |m| drop(m.as_object_mut().unwrap().remove(keys::PRE))),
        ("no tokenizer.ggml.tokens", |m| drop(m.as_object_mut().unwrap().remove(keys::TOKENS))),
        ("no tokenizer.ggml.merges", |m| drop(m.as_object_mut().unwrap().remove(keys::MERGES))),
        ("tokenizer.ggml.tokens: invalid type", |m| m[keys::TOKENS] = 1.into()),
        ("0 tokens are no vocabulary", |m| m[keys::TOKENS] = json!([])),
        (r#"tokens 0 and 1 are both "!""#, |m| m[keys::TOKENS][1] = "!".into()),
        ("no token is the byte 0x22", |m| m[keys::TOKENS][1] = "new".into()),
        (r#"entry 1, "ab", is not two tokens"#, |m| m[keys::MERGES][1] = "ab".into()),
        (r#"entry 0, "x y", speaks of what is no token"#, |m| m[keys::MERGES][0] = "x y".into()),
        ("token_type: it has 1 entries for 264 tokens", |m| m[keys::TOKEN_TYPE] = json!([1])),
        ("token 3 has the type 7", |m| m[keys::TOKEN_TYPE][3] = 7.into()),
        (r#"token 3, "$", is of the kind of bytes"#, |m| m[keys::TOKEN_TYPE][3] = 6.into()),
        ("eos_token_id: there is no token 264 among 264", |m| m[keys::EOS] = 264.into()),
        ("bos_token_id: invalid value", |m| m[keys::BOS] = (-1).into()),
        ("add_bos_token: a token is to be added, and there is no tokenizer.ggml.bos", |m| {
            m[keys::ADD_BOS] = true.into();
        }),
        ("chat_template: invalid type", |m| m[keys::CHAT_TEMPLATE] = json!(["a"])),
    ];
    let llama_faults: &[(&str, Fault)] = &[
        ("no tokenizer.ggml.scores", |m| drop(m.as_object_mut().unwrap().remove(keys::SCORES))),
        ("scores: it has 1 entries for 267", |m| m[keys::SCORES] = json!([1.0])),
        ("scores: invalid type: null", |m| m[keys::SCORES][5] = Value::Null),
        (r#"tokens 262 and 264, "ab" and "aa", both have -1, so"#, |m| m[keys::SCORES][262] = json!(-1.0)),
        ("pieces are too long to be joined, the longest of 20000 bytes", |m| {
            m[keys::TOKENS][260] = "a".repeat(20_000).into();
        }),
        (r#"token 13, "<0x0a>", is of the kind of bytes"#, |m| m[keys::TOKENS][13] = "<0x0a>".into()),
        ("no token is the byte <0x01>", |m| m[keys::TOKEN_TYPE][4] = 1.into()),
        ("add_bos_token: a token is to be added", |m| drop(m.as_object_mut().unwrap().remove(keys::BOS))),
    ];
    let faults = gpt2_faults.iter().map(|fault| (gpt2(), fault));
    for (mut metadata, (expected, fault)) in faults.chain(llama_faults.iter().map(|fault| (llama(), fault))) {
        fault(&mut metadata);
        let error = parse(&metadata).expect_err(expected).to_string();
        assert!(error.starts_with("reading the tokenizer tokenizer.json: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_file_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let refused = |expected: &str| {
        let error = Tokenizer::read(&path).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("tokenizer.json"), "{error}");
    };
    refused("failed to open file");
    std::fs::write(&path, br#"{"schema": 2, "metadata": {}}"#).unwrap();
    refused("schema 2, and this anepipe reads 1");
    std::fs::write(&path, br#"{"schema": 1}"#).unwrap();
    refused("missing field `metadata`");
    std::fs::write(&path, b"\xff\xfe").unwrap();
    refused("not tokenizer metadata");
    std::fs::File::create(&path).unwrap().set_len((128 << 20) + 1).unwrap();
    refused("no vocabulary needs more than 134217728");
}

#[test]
fn the_digest_names_the_file() {
    let file = json!({"schema": 1, "metadata": llama()}).to_string();
    let tokenizer = Tokenizer::parse(Path::new("t"), file.as_bytes()).unwrap();
    assert_eq!(tokenizer.digest(), *blake3::hash(file.as_bytes()).as_bytes());
}

#[test]
fn a_long_text_of_one_kind_is_encoded_in_one_go() {
    for tokenizer in [parse(&gpt2()).unwrap(), parse(&llama()).unwrap()] {
        for unit in ["a", " ", "\n", "abc", "<", "1", "é", " \u{300}"] {
            let text = unit.repeat(100_000);
            let ids = tokenizer.encode(&text, OWN);
            assert!(tokenizer.decode(&ids).unwrap() == text, "{unit:?}");
        }
    }
}

/// A value that one key has, for another key.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "(gpt2|llama|gpt-4o|\\PC{0,6})".prop_map(Value::from),
        prop::collection::vec("(<0x[0-9A-G]{2}>|[ab▁Ġ]{0,3}|[ab] [ab])", 0..20).prop_map(Value::from),
        prop::collection::vec(any::<f32>(), 0..20).prop_map(|scores| json!(scores)),
        prop::collection::vec(0u32..8, 264).prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Tokenizer::parse(Path::new("t"), &bytes).is_err());
    }

    #[test]
    fn no_metadata_makes_reading_or_encoding_panic(
        base in prop_oneof![Just(gpt2()), Just(llama())],
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_value()), 0..3),
        text in "(\\PC|[ab <|>/s]){0,20}",
    ) {
        let mut metadata = base;
        let names: Vec<String> = metadata.as_object().unwrap().keys().cloned().collect();
        for (nth, value) in changes {
            metadata[nth.get(&names)] = value;
        }
        if let Ok(tokenizer) = parse(&metadata) {
            for options in [PLAIN, OWN] {
                let ids = tokenizer.encode(&text, options);
                prop_assert!(ids.iter().all(|&id| id < tokenizer.vocabulary()));
                prop_assert!(tokenizer.decode(&ids).is_ok());
            }
        }
    }
}
