//! Prompts from files: JSON lines, in the forms that are about.

use std::path::{Path, PathBuf};

use anepipe_runtime::token::TokenId;
use serde::Serialize;
use serde_json::Value;

use super::Tokens;

/// A prompt as a file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// `id`, `task_id` or `question_id`; else its line.
    pub id: String,
    /// `class` or `category`; else `prompts`.
    pub class: String,
    /// What is fed.
    pub content: Content,
}

/// What is fed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Text, to be tokenized: `text`, `prompt`, or the first of `turns`.
    Text(String),
    /// Tokens: `prompt_ids`.
    Ids(Vec<TokenId>),
}

impl Prompt {
    /// It as tokens; `encode` is what makes them of a text.
    pub fn tokens(&self, encode: impl FnOnce(&str) -> Vec<TokenId>) -> Tokens {
        let ids = match &self.content {
            Content::Text(text) => encode(text),
            Content::Ids(ids) => ids.clone(),
        };
        Tokens { id: self.id.clone(), class: self.class.clone(), ids }
    }
}

/// A file that holds no prompts.
#[derive(Debug, thiserror::Error)]
pub enum PromptsError {
    /// It could not be read.
    #[error("reading prompts: {0}")]
    Io(#[from] std::io::Error),
    /// It is larger than any list of prompts.
    #[error("reading prompts from {}: it has {bytes} bytes; at most {MOST_BYTES} are taken", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A line is not a prompt.
    #[error(
        "reading prompts from {}, line {line}: {reason}; each line is a JSON object with `text`, `prompt`, `turns` or `prompt_ids`",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no line.
    #[error("reading prompts from {}: it has no prompts", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

const MOST_BYTES: u64 = 64 << 20;

/// The prompts at `path`.
pub fn read_prompts(path: &Path) -> Result<Vec<Prompt>, PromptsError> {
    let bytes = fs_err::metadata(path)?.len();
    if bytes > MOST_BYTES {
        return Err(PromptsError::TooLarge { path: path.to_owned(), bytes });
    }
    parse_prompts(&fs_err::read_to_string(path)?, path)
}

/// Prompts for a project that names none: a little of everything, code for the most part.
pub fn default_prompts() -> Vec<Prompt> {
    // The file is part of the program, and a test reads it.
    parse_prompts(include_str!("prompts.jsonl"), Path::new("prompts.jsonl")).unwrap_or_default()
}

/// The prompts in `text`, which came from `path`. Empty lines are passed over.
fn parse_prompts(text: &str, path: &Path) -> Result<Vec<Prompt>, PromptsError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let prompts: Vec<Prompt> = lines
        .map(|(index, line)| {
            let line_number = index + 1;
            prompt(line, line_number).map_err(|reason| PromptsError::Line {
                path: path.to_owned(),
                line: line_number,
                reason,
            })
        })
        .collect::<Result<_, _>>()?;
    if prompts.is_empty() { Err(PromptsError::Empty { path: path.to_owned() }) } else { Ok(prompts) }
}

fn prompt(line: &str, number: usize) -> Result<Prompt, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let name = |keys: &[&str], other: String| {
        keys.iter()
            .find_map(|key| match value.get(key)? {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            })
            .unwrap_or(other)
    };
    let text =
        ["text", "prompt"].into_iter().find_map(|key| value.get(key)).or_else(|| value.get("turns")?.get(0));
    let content = match (text, value.get("prompt_ids")) {
        (Some(Value::String(text)), None) => Content::Text(text.clone()),
        (None, Some(ids)) => {
            Content::Ids(serde_json::from_value(ids.clone()).map_err(|error| format!("prompt_ids: {error}"))?)
        }
        (Some(_), Some(_)) => return Err("it has both a text and prompt_ids".to_owned()),
        (Some(_), None) => return Err("its text is not a string".to_owned()),
        (None, None) => return Err("it has no text".to_owned()),
    };
    let empty = match &content {
        Content::Text(text) => text.is_empty(),
        Content::Ids(ids) => ids.is_empty(),
    };
    if empty {
        return Err("its text is empty".to_owned());
    }
    Ok(Prompt {
        id: name(&["id", "task_id", "question_id"], format!("line {number}")),
        class: name(&["class", "category"], "prompts".to_owned()),
        content,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Prompt>, PromptsError> {
        parse_prompts(text, Path::new("p.jsonl"))
    }

    #[test]
    fn every_form_of_a_prompt_is_read() {
        let prompts = parse(concat!(
            r#"{"id": "a", "class": "code", "text": "def f():"}"#,
            "\n\n",
            r#"{"task_id": "HumanEval/0", "prompt": "x", "canonical_solution": "y"}"#,
            "\n",
            r#"{"question_id": 81, "category": "writing", "turns": ["first", "second"]}"#,
            "\n",
            r#"{"prompt_ids": [1, 2]}"#,
        ))
        .unwrap();
        let expected = [
            ("a", "code", Content::Text("def f():".to_owned())),
            ("HumanEval/0", "prompts", Content::Text("x".to_owned())),
            ("81", "writing", Content::Text("first".to_owned())),
            ("line 5", "prompts", Content::Ids(vec![1, 2])),
        ];
        let found: Vec<_> =
            prompts.iter().map(|p| (p.id.as_str(), p.class.as_str(), p.content.clone())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_line_that_is_no_prompt_is_named() {
        for (line, expected) in [
            ("not json", "line 2: expected"),
            (r#"{"id": "a"}"#, "line 2: it has no text"),
            (r#"{"text": 3}"#, "line 2: its text is not a string"),
            (r#"{"text": ""}"#, "line 2: its text is empty"),
            (r#"{"prompt_ids": [-1]}"#, "line 2: prompt_ids"),
            (r#"{"prompt_ids": [1], "text": "a"}"#, "line 2: it has both"),
        ] {
            let error = parse(&format!("{{\"text\": \"fine\"}}\n{line}")).expect_err(line).to_string();
            assert!(error.contains(expected) && error.contains("p.jsonl"), "{error}");
        }
        assert!(parse("\n \n").expect_err("nothing").to_string().contains("no prompts"));
    }

    #[test]
    fn the_default_prompts_are_prompts() {
        assert_eq!(default_prompts().len(), 8);
    }
}
