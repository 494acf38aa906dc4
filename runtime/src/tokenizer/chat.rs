//! Chats as text: a model's own template, filled with messages.
//!
//! `tokenizer.chat_template` is a Jinja template, written for Python. It is a program out of a model file: it gets no access to
//! anything but the messages, and only so many steps.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

/// More than any template needs for thousands of messages, and done in a moment.
const MOST_STEPS: u64 = 5_000_000;

/// One turn of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`, and whatever else the template knows. A template may build a control token
    /// of it, so it is for the program to choose, never for a user.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// What a template is filled with.
pub(super) struct Chat<'a> {
    pub(super) messages: &'a [Message],
    /// Whether the text ends where the assistant's answer begins.
    pub(super) add_generation_prompt: bool,
    pub(super) bos: &'a str,
    pub(super) eos: &'a str,
}

/// The text that `template` makes of a chat.
pub(super) fn render(template: &str, chat: &Chat<'_>) -> Result<String, Error> {
    let mut environment = Environment::new();
    // As the templates' authors run them: Python's methods, and no blank lines from blocks.
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(MOST_STEPS));
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    let message =
        |message: &Message| context! { role => message.role.as_str(), content => message.content.as_str() };
    let messages: Vec<Value> = chat.messages.iter().map(message).collect();
    environment.template_from_str(template)?.render(context! {
        messages => messages,
        add_generation_prompt => chat.add_generation_prompt,
        bos_token => chat.bos,
        eos_token => chat.eos,
    })
}

/// A character that no message has, to break what must not be read as a control token. Unicode keeps these apart for uses
/// within a program.
pub(super) fn unused_character(messages: &[Message]) -> Option<char> {
    ('\u{fdd0}'..='\u{fdef}')
        .find(|&candidate| !messages.iter().any(|message| message.content.contains(candidate)))
}

/// `text` with `mark` after the first character of everything that spells one of `names`, which is then no name any more.
/// (A name of one character would remain one; no vocabulary has such.)
pub(super) fn broken(text: &str, names: &[&str], mark: char) -> String {
    let mut marked = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        marked.push(character);
        if names.iter().any(|name| text[at..].starts_with(name)) {
            marked.push(mark);
        }
    }
    marked
}
