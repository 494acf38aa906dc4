//! The tokens of a model: what each one says, what kind it is, and which ones end an answer.

use std::collections::{BTreeSet, HashMap};

use super::metadata::{Metadata, Text};
use super::{TokenizerError, alphabet, keys};
use crate::token::TokenId;

/// Names that end an answer whatever the metadata says: llama.cpp's list of end-of-generation tokens.
const END_NAMES: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Keys of tokens that end an answer.
const END_KEYS: &[&str] = &[
    keys::EOS,
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
];

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A piece of text.
    Text,
    /// A piece of text that is never cut or joined: it is looked for before anything else.
    UserDefined,
    /// A sign to the model: the beginning, the end, a turn. Not text.
    Control,
    /// One byte, for what the vocabulary cannot spell.
    Byte,
}

/// How the pieces of a vocabulary are written in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// In GPT-2's alphabet.
    Alphabet,
    /// As text, with `▁` for a space and `<0x0A>` for a byte.
    SentencePiece,
}

/// The tokens.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// What tokens say, one after the other.
    bytes: Vec<u8>,
    /// Where each ends in `bytes`.
    ends: Vec<usize>,
    kinds: Vec<TokenKind>,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    end: BTreeSet<TokenId>,
}

impl Vocabulary {
    /// Reads the tokens whose texts are `texts`, by an [`index`] of them.
    pub(super) fn read(
        metadata: &Metadata<'_>,
        texts: &[Text<'_>],
        ids: &HashMap<&str, TokenId>,
        spelling: Spelling,
    ) -> Result<Self, TokenizerError> {
        let token = |key: &'static str| match metadata.optional::<TokenId>(key)? {
            Some(id) if id as usize >= texts.len() => {
                Err(metadata.malformed(key, format!("there is no token {id} among {}", texts.len())))
            }
            id => Ok(id),
        };
        let mut end: BTreeSet<TokenId> = END_NAMES.iter().filter_map(|name| ids.get(name).copied()).collect();
        for key in END_KEYS {
            end.extend(token(key)?);
        }
        let kinds = kinds(metadata, texts, &end)?;
        let mut vocabulary = Self {
            bytes: Vec::new(),
            ends: Vec::with_capacity(texts.len()),
            kinds,
            bos: token(keys::BOS)?,
            eos: token(keys::EOS)?,
            end,
        };
        for (id, text) in texts.iter().enumerate() {
            vocabulary.push(text, vocabulary.kinds[id], spelling).map_err(|reason| {
                metadata.malformed(keys::TOKENS, format!("token {id}, {:?}, {reason}", &**text))
            })?;
        }
        Ok(vocabulary)
    }

    /// Appends what the token written `text` says.
    fn push(&mut self, text: &str, kind: TokenKind, spelling: Spelling) -> Result<(), &'static str> {
        match (kind, spelling) {
            (TokenKind::Byte, _) => {
                self.bytes.push(byte(text).ok_or("is of the kind of bytes, but not written like <0x0A>")?);
            }
            (TokenKind::Text, Spelling::SentencePiece) => {
                self.bytes.extend_from_slice(text.replace('▁', " ").as_bytes());
            }
            // Some files have words outside the alphabet among their text; no merge makes them.
            (TokenKind::Text, Spelling::Alphabet) => match alphabet::decode(text) {
                Some(bytes) => self.bytes.extend_from_slice(&bytes),
                None => self.bytes.extend_from_slice(text.as_bytes()),
            },
            (TokenKind::Control | TokenKind::UserDefined, _) => self.bytes.extend_from_slice(text.as_bytes()),
        }
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    /// The token that begins a text.
    pub(super) fn bos(&self) -> Option<TokenId> {
        self.bos
    }

    /// The token that ends a text.
    pub(super) fn eos(&self) -> Option<TokenId> {
        self.eos
    }

    /// Whether `id` ends an answer.
    pub(super) fn is_end(&self, id: TokenId) -> bool {
        self.end.contains(&id)
    }

    /// What `id` says, control tokens their names; `None` beyond the vocabulary.
    pub(super) fn piece(&self, id: TokenId) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start..end)
    }

    /// What kind of token `id` is; `None` beyond the vocabulary.
    pub(super) fn kind(&self, id: TokenId) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// All ids and their kinds.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (TokenId, TokenKind)> {
        (0..).zip(self.kinds.iter().copied())
    }

    /// Whether written text may turn into `id`. Not into control tokens and bytes, so no text that spells one can be joined into
    /// it.
    pub(super) fn is_written(&self, id: TokenId) -> bool {
        matches!(self.kind(id), Some(TokenKind::Text | TokenKind::UserDefined))
    }
}

/// The tokens by their texts. Two of one text would make encoding a matter of chance.
pub(super) fn index<'t>(
    metadata: &Metadata<'_>,
    texts: &'t [Text<'_>],
) -> Result<HashMap<&'t str, TokenId>, TokenizerError> {
    if u32::try_from(texts.len()).is_err() || texts.is_empty() {
        return Err(metadata.malformed(keys::TOKENS, format!("{} tokens are no vocabulary", texts.len())));
    }
    let mut ids = HashMap::with_capacity(texts.len());
    for (id, text) in (0..).zip(texts).filter(|(_, text)| !text.is_empty()) {
        if let Some(first) = ids.insert(&**text, id) {
            let text = &**text;
            let reason = format!("tokens {first} and {id} are both {text:?}");
            return Err(metadata.malformed(keys::TOKENS, reason));
        }
    }
    Ok(ids)
}

/// The kinds of all tokens, from `tokenizer.ggml.token_type`.
fn kinds(
    metadata: &Metadata<'_>,
    texts: &[Text<'_>],
    end: &BTreeSet<TokenId>,
) -> Result<Vec<TokenKind>, TokenizerError> {
    let Some(types) = metadata.optional::<Vec<u32>>(keys::TOKEN_TYPE)? else {
        return Ok((0..).zip(texts).map(|(id, text)| kind_of_text(id, text, end)).collect());
    };
    if types.len() != texts.len() {
        let reason = format!("it has {} entries for {} tokens", types.len(), texts.len());
        return Err(metadata.malformed(keys::TOKEN_TYPE, reason));
    }
    let kind = |(id, (&number, text)): (TokenId, (&u32, &Text<'_>))| match number {
        // 0 and 5, undefined and unused, are padding: text that no model says.
        0 | 1 | 5 => Ok(if end.contains(&id) { TokenKind::Control } else { TokenKind::Text }),
        // 2 is the unknown token, which is no more text than a control token is.
        2 | 3 => Ok(TokenKind::Control),
        // Converters write some control tokens as user-defined ones; in a user's text they must not count as either.
        4 if end.contains(&id) || looks_like_control(text) => Ok(TokenKind::Control),
        4 => Ok(TokenKind::UserDefined),
        6 => Ok(TokenKind::Byte),
        _ => Err(metadata
            .malformed(keys::TOKEN_TYPE, format!("token {id} has the type {number}, and there are 0 to 6"))),
    };
    (0..).zip(types.iter().zip(texts)).map(kind).collect()
}

/// The kind of a token of a file that lists no types.
fn kind_of_text(id: TokenId, text: &str, end: &BTreeSet<TokenId>) -> TokenKind {
    if end.contains(&id) || looks_like_control(text) {
        TokenKind::Control
    } else if byte(text).is_some() {
        TokenKind::Byte
    } else {
        TokenKind::Text
    }
}

/// Whether a token is written like `<|user|>`.
fn looks_like_control(text: &str) -> bool {
    text.len() > 4 && text.starts_with("<|") && text.ends_with("|>")
}

/// The byte that `<0x0A>` stands for. Each has one name: llama.cpp does not find `<0x0a>` when it spells.
pub(super) fn byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hex = digits.len() == 2 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
    u8::from_str_radix(digits, 16).ok().filter(|_| hex)
}
