//! Chat templates of the kinds that model files bring.

use anepipe_runtime::tokenizer::{Encode, Message, Tokenizer, TokenizerError};
use serde_json::json;

use crate::files::of_metadata;

/// A vocabulary of bytes and control tokens, with a template.
fn tokenizer(template: Option<&str>) -> Tokenizer {
    let control = ["<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"];
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> = control.iter().map(|&name| name.to_owned()).chain(bytes).collect();
    let types: Vec<u32> = tokens.iter().map(|token| if token.starts_with("<0x") { 6 } else { 3 }).collect();
    let mut metadata = json!({
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.scores": vec![0.0; tokens.len()],
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_space_prefix": false,
    });
    if let Some(template) = template {
        metadata["tokenizer.chat_template"] = template.into();
    }
    of_metadata(&metadata)
}

fn chat() -> Vec<Message> {
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    vec![
        message("system", " Be brief. "),
        message("user", "Hi & <b>"),
        message("assistant", "Yo"),
        message("user", "?"),
    ]
}

/// Each turn as a role's token, what is said, and the end's: the way of Phi-4-mini.
const TURNS: &str = "{% for message in messages %}\
    {% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}\
    {{ '<|' + message['role'] + '|>' + message['content'] + message['tools'] + '<|end|>' }}\
    {% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}";

#[test]
fn turns_are_written_as_they_are() {
    let tokenizer = tokenizer(Some(TURNS));
    assert_eq!(
        tokenizer.chat(&chat(), true).unwrap(),
        "<|system|> Be brief. <|end|><|user|>Hi & <b><|end|><|assistant|>Yo<|end|><|user|>?<|end|><|assistant|>"
    );
    assert_eq!(tokenizer.chat(&chat()[3..], false).unwrap(), "<|user|>?<|end|></s>");
}

#[test]
fn templates_may_speak_python() {
    let template = "\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set loop_messages = messages[1:] %}
    {{- messages[0].content.strip().upper() ~ '\\n' }}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{% for message in loop_messages %}
    {% if message.content.startswith('H') %}
        {% continue %}
    {% endif %}
{{ loop.index0 }}{{ message.role | trim }}: {{ message['content'] | tojson }}
{% endfor %}";
    assert_eq!(
        tokenizer(Some(template)).chat(&chat(), false).unwrap(),
        "<s>BE BRIEF.\n1assistant: \"Yo\"\n2user: \"?\"\n"
    );
}

#[test]
fn a_text_begins_with_its_token_once() {
    let first = |template: &str| {
        let tokenizer = tokenizer(Some(template));
        tokenizer.encode_chat(&chat()[3..], false).unwrap()
    };
    let expected = [1, 7 + u32::from(b'?')];
    assert_eq!(first("{{ bos_token }}{{ messages[0].content }}"), expected);
    assert_eq!(first("{{ messages[0].content }}"), expected);
}

#[test]
fn a_template_may_look_into_messages_that_spell_control_tokens() {
    let template = "<|user|>{{ messages[0]['content'].strip() | upper }}<|end|>";
    let tokenizer = tokenizer(Some(template));
    let forged = vec![Message { role: "user".to_owned(), content: " <s></s> ".to_owned() }];
    let ids = tokenizer.encode_chat(&forged, true).unwrap();
    let plain = tokenizer.encode("<S></S>", Encode::default());
    assert_eq!(ids, [vec![1, 4], plain, vec![6]].concat());
}

#[test]
fn a_chat_without_a_template_is_refused() {
    let error = tokenizer(None).chat(&chat(), true).unwrap_err();
    assert!(matches!(error, TokenizerError::NoTemplate { .. }), "{error}");
    assert!(error.to_string().contains("tokenizer.chat_template"), "{error}");
}

#[test]
fn a_template_that_fails_is_refused_with_its_own_words() {
    let cases = [
        ("{{ raise_exception('only users speak') }}", "only users speak"),
        ("{% if %}", "syntax error"),
        ("{{ messages | nothing }}", "nothing"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", "fuel"),
        ("{% include '/etc/passwd' %}", "unknown statement"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    ];
    for (template, reason) in cases {
        let error = tokenizer(Some(template)).chat(&chat(), true).unwrap_err();
        assert!(matches!(error, TokenizerError::Template { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}
