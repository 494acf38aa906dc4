//! Text to tokens and back, by the vocabulary that a model brings.
//!
//! A bundle's `tokenizer.json` holds the `tokenizer.` keys of the model's file. Two algorithms are known: byte-level byte-pair
//! encoding (`gpt2`, cut into words as `gpt-2` or `gpt-4o`), and SentencePiece's (`llama`). The algorithms are llama.cpp's; the
//! tests hold the tokens against its vectors, which the vocabularies' first encoders gave.
//!
//! A text that a user wrote cannot forge a control token: what spells one is encoded as the characters it is made of, unless
//! the caller asks otherwise ([`Encode::parse_special`]), and in a chat even then ([`Tokenizer::encode_chat`]).
//!
//! ```no_run
//! use anepipe_runtime::tokenizer::{Encode, StopStrings, Tokenizer};
//!
//! # fn model(_: &[u32]) -> Option<u32> { None }
//! let tokenizer = Tokenizer::read("bundle/tokenizer.json".as_ref())?;
//! let mut ids = tokenizer.encode("def main():", Encode { add_special: true, ..Encode::default() });
//! let mut text = tokenizer.stream_after(&ids);
//! let mut stops = StopStrings::new(["\n\n".to_owned()]);
//! let mut said = String::new();
//! while let Some(id) = model(&ids).filter(|&id| !tokenizer.is_end(id)) {
//!     ids.push(id);
//!     said += &stops.push(&text.push(id)?);
//!     if stops.found().is_some() {
//!         break;
//!     }
//! }
//! said += &stops.push(&text.finish());
//! said += &stops.finish();
//! # Ok::<(), anepipe_runtime::tokenizer::TokenizerError>(())
//! ```
//!
//! Joining is the `tokenizers` crate's. Cutting a text into words is not: the crate's expressions give up on a long text, and it
//! then ends in silence with the words that it has (version 0.23). Nor is reading: a list of merges that names no tokens makes
//! its builder panic, and it asks for a list also where SentencePiece has scores.

mod alphabet;
mod bpe;
mod chat;
mod error;
mod keys;
mod merge;
mod metadata;
mod special;
mod split;
mod spm;
mod stop;
mod stream;
mod vocabulary;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

pub use self::chat::Message;
pub use self::error::TokenizerError;
pub use self::stop::StopStrings;
pub use self::stream::TextStream;

use self::bpe::Bpe;
use self::chat::Chat;
use self::metadata::{Metadata, Text};
use self::special::{Fragment, Specials};
use self::spm::Spm;
use self::vocabulary::{Spelling, TokenKind, Vocabulary};
use crate::token::TokenId;

/// A vocabulary and its algorithm.
#[derive(Debug)]
pub struct Tokenizer {
    path: PathBuf,
    digest: [u8; 32],
    vocabulary: Vocabulary,
    specials: Specials,
    model: Model,
    /// The token that goes before every text, if this vocabulary wants one.
    before: Option<TokenId>,
    /// The token that goes after every text, if this vocabulary wants one.
    after: Option<TokenId>,
    template: Option<String>,
}

/// How a text is to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Encode {
    /// Whether names of control tokens in the text are those tokens. For text of one's own only, never a user's.
    pub parse_special: bool,
    /// Whether to add the tokens that the vocabulary wants before and after a text (`tokenizer.ggml.add_bos_token` and
    /// `add_eos_token`; without the keys, SentencePiece vocabularies want one before). They may be none.
    pub add_special: bool,
}

#[derive(Debug)]
enum Model {
    Bpe(Bpe),
    Spm { spm: Spm, space_prefix: bool },
}

impl Model {
    /// Whether a space is put before every text.
    fn space_prefix(&self) -> bool {
        matches!(self, Self::Spm { space_prefix: true, .. })
    }
}

impl Tokenizer {
    /// Reads the `tokenizer.json` at `path`.
    pub fn read(path: &Path) -> Result<Self, TokenizerError> {
        Self::parse(path, &metadata::read_bounded(path)?)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, TokenizerError> {
        let metadata = Metadata::parse(path, bytes)?;
        let kind: String = metadata.required(keys::MODEL)?;
        let (spelling, bos_by_kind) = match kind.as_str() {
            "gpt2" => (Spelling::Alphabet, false),
            "llama" => (Spelling::SentencePiece, true),
            _ => return Err(metadata.unsupported(keys::MODEL, kind, r#""gpt2" and "llama""#)),
        };
        let texts: Vec<Text<'_>> = metadata.required(keys::TOKENS)?;
        let ids = vocabulary::index(&metadata, &texts)?;
        let vocabulary = Vocabulary::read(&metadata, &texts, &ids, spelling)?;
        let model = match spelling {
            Spelling::Alphabet => Model::Bpe(Bpe::read(&metadata, &ids, &vocabulary)?),
            Spelling::SentencePiece => Model::Spm {
                spm: Spm::read(&metadata, &ids, &vocabulary)?,
                space_prefix: metadata.optional(keys::ADD_SPACE_PREFIX)?.unwrap_or(true),
            },
        };
        let added = |add_key, by_kind: bool, key, id: Option<TokenId>| match (
            metadata.optional(add_key)?.unwrap_or(by_kind),
            id,
        ) {
            (false, _) => Ok(None),
            (true, Some(id)) => Ok(Some(id)),
            (true, None) => {
                Err(metadata.malformed(add_key, format!("a token is to be added, and there is no {key}")))
            }
        };
        Ok(Self {
            path: path.to_owned(),
            digest: *blake3::hash(bytes).as_bytes(),
            before: added(keys::ADD_BOS, bos_by_kind, keys::BOS, vocabulary.bos())?,
            after: added(keys::ADD_EOS, false, keys::EOS, vocabulary.eos())?,
            template: metadata.optional(keys::CHAT_TEMPLATE)?,
            specials: Specials::new(&vocabulary, &texts),
            vocabulary,
            model,
        })
    }

    /// How many tokens there are. A model may have logits for more.
    pub fn vocabulary(&self) -> u32 {
        self.vocabulary.len()
    }

    /// The BLAKE3 digest of the file: a name for the vocabulary.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The token that begins a text (`tokenizer.ggml.bos_token_id`).
    pub fn bos(&self) -> Option<TokenId> {
        self.vocabulary.bos()
    }

    /// The token that ends a text (`tokenizer.ggml.eos_token_id`).
    pub fn eos(&self) -> Option<TokenId> {
        self.vocabulary.eos()
    }

    /// Whether an answer ends at `id`: the end of text, of a turn or of a message, by the metadata's keys and by the names
    /// that llama.cpp knows (`<|end|>`, `<|im_end|>`, …).
    pub fn is_end(&self, id: TokenId) -> bool {
        self.vocabulary.is_end(id)
    }

    /// What the token `id` says, a control token its name. Not always whole characters. `None` beyond the vocabulary.
    pub fn piece(&self, id: TokenId) -> Option<&[u8]> {
        self.vocabulary.piece(id)
    }

    /// The tokens of `text`. Every text has some.
    pub fn encode(&self, text: &str, options: Encode) -> Vec<TokenId> {
        let mut ids = Vec::new();
        if options.add_special {
            ids.extend(self.before);
        }
        let fragments = self.specials.split(text, options.parse_special);
        self.encode_fragments(&fragments, &mut true, &mut ids);
        if options.add_special {
            ids.extend(self.after);
        }
        ids
    }

    /// Appends the tokens of `fragments`. `at_start` says whether nothing or a special token stands before.
    fn encode_fragments(&self, fragments: &[Fragment<'_>], at_start: &mut bool, ids: &mut Vec<TokenId>) {
        for fragment in fragments {
            match (*fragment, &self.model) {
                (Fragment::Token(id), _) => ids.push(id),
                (Fragment::Text(text), Model::Bpe(bpe)) => bpe.encode(text, ids),
                (Fragment::Text(text), Model::Spm { spm, space_prefix }) => {
                    spm.encode(text, *space_prefix && *at_start, ids);
                }
            }
            *at_start = matches!(fragment, Fragment::Token(_));
        }
    }

    /// The text of `ids`, which begin a text. Control tokens say nothing; bytes that are no UTF-8 become U+FFFD. The space that
    /// SentencePiece puts before a text is taken away again.
    pub fn decode(&self, ids: &[TokenId]) -> Result<String, TokenizerError> {
        let mut stream = self.stream();
        let mut text = ids.iter().map(|&id| stream.push(id)).collect::<Result<String, _>>()?;
        text.push_str(&stream.finish());
        Ok(text)
    }

    /// A stream for tokens that begin a text.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::after(self, None)
    }

    /// A stream for tokens that follow `prompt`: a space at its beginning is part of the text, unless the prompt ends in a
    /// control token.
    pub fn stream_after(&self, prompt: &[TokenId]) -> TextStream<'_> {
        TextStream::after(self, prompt.last().copied())
    }

    /// Whether text on both sides of `id` is encoded apart.
    fn parts_text(&self, id: TokenId) -> bool {
        matches!(self.vocabulary.kind(id), Some(TokenKind::Control | TokenKind::UserDefined))
    }

    /// `messages` as the model's template writes them; with `add_generation_prompt`, up to where the answer begins.
    pub fn chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TokenizerError> {
        let Some(template) = &self.template else {
            return Err(TokenizerError::NoTemplate { path: self.path.clone() });
        };
        let name = |id: Option<TokenId>| {
            let piece = id.and_then(|id| self.vocabulary.piece(id)).unwrap_or_default();
            String::from_utf8_lossy(piece)
        };
        let (bos, eos) = (name(self.bos()), name(self.eos()));
        let chat = Chat { messages, add_generation_prompt, bos: &bos, eos: &eos };
        chat::render(template, &chat).map_err(|error| TokenizerError::Template {
            path: self.path.clone(),
            reason: format!("{error:#}"),
        })
    }

    /// The tokens of a chat: the template's control tokens are tokens, those that a message spells are text. Begins with the
    /// token that the vocabulary wants before a text, once.
    pub fn encode_chat(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<TokenId>, TokenizerError> {
        let names: Vec<&str> = self.specials.control().collect();
        let Some(mark) = chat::unused_character(messages) else {
            let reason = "the messages use every noncharacter from U+FDD0 to U+FDEF".to_owned();
            return Err(TokenizerError::Template { path: self.path.clone(), reason });
        };
        let broken: Vec<Message> = messages
            .iter()
            .map(|message| Message {
                role: message.role.clone(),
                content: chat::broken(&message.content, &names, mark),
            })
            .collect();
        let rendered = self.chat(&broken, add_generation_prompt)?;

        let mut ids = Vec::new();
        let mut at_start = true;
        for fragment in self.specials.split(&rendered, true) {
            match fragment {
                // Without the marks it may spell user-defined tokens again, but control tokens no longer count.
                Fragment::Text(text) if text.contains(mark) => {
                    let text: Cow<'_, str> = text.replace(mark, "").into();
                    self.encode_fragments(&self.specials.split(&text, false), &mut at_start, &mut ids);
                }
                whole => self.encode_fragments(&[whole], &mut at_start, &mut ids),
            }
        }
        if let Some(before) = self.before.filter(|before| ids.first() != Some(before)) {
            ids.insert(0, before);
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests;
