//! A loaded model: everything that sessions share and nothing that changes.

use std::path::{Path, PathBuf};

use super::embedding::Embedding;
use super::error::SessionError;
use crate::bundle::Parts;
use crate::device::{Device, Shard, Signature, function_name};
use crate::pass::PassLayout;
use crate::rope::Rope;

/// A loaded model. Any number of [`super::Session`]s run on it, from any threads.
pub struct Model {
    pub(super) embedding: Embedding,
    pub(super) rope: Rope,
    pub(super) layers: Vec<Part>,
    pub(super) heads: Vec<Part>,
    /// Ascending by width; at least one.
    pub(super) programs: Vec<Program>,
    block: usize,
    context: usize,
    hidden: usize,
    vocab: usize,
    device: &'static str,
}

/// One loaded shard.
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) shard: Box<dyn Shard>,
    /// Vocabulary rows of a head's logits; 0 for layers.
    rows: usize,
}

/// The functions that make up a pass of one width.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) width: usize,
    /// For each shard of layers, the number of its function.
    pub(super) layers: Vec<usize>,
    /// For each head.
    pub(super) heads: Vec<usize>,
}

impl Model {
    /// Loads every shard of `parts` on `device`, maps the embedding, and checks that all of it is one model.
    pub fn open(parts: &Parts, device: &dyn Device) -> Result<Self, SessionError> {
        let [block, context, hidden, vocab] =
            [parts.block, parts.context, parts.hidden, parts.vocab].map(|number| number as usize);
        check(parts)?;
        let load = |path: &Path, rows| match device.load(path) {
            Ok(shard) => Ok(Part { path: path.to_owned(), shard, rows }),
            Err(source) => Err(SessionError::Load(source)),
        };
        let mut model = Self {
            embedding: Embedding::open(&parts.embedding, vocab, hidden)?,
            rope: Rope::new(&parts.rope)?,
            layers: parts.layers.iter().map(|path| load(path, 0)).collect::<Result<_, _>>()?,
            heads: parts
                .heads
                .iter()
                .map(|head| load(&head.path, head.rows.len()))
                .collect::<Result<_, _>>()?,
            programs: Vec::new(),
            block,
            context,
            hidden,
            vocab,
            device: device.name(),
        };
        let mut widths = parts.widths.clone();
        widths.sort_unstable();
        widths.dedup();
        for &width in &widths {
            let program = model.program(width as usize, &function_name(&widths, width))?;
            model.programs.push(program);
        }
        Ok(model)
    }

    /// Tokens that a pass verifies, T.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Tokens that the widest pass takes.
    pub fn widest(&self) -> usize {
        self.programs.last().map_or(1, |program| program.width)
    }

    /// Positions of the KV cache, S.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Elements of a hidden state, d.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Tokens of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Name of the device that runs it.
    pub fn device(&self) -> &'static str {
        self.device
    }

    fn program(&self, width: usize, name: &str) -> Result<Program, SessionError> {
        let layers = self.layers.iter().map(|part| {
            let function = part.find(name)?;
            let layout = part.layout(function)?;
            let found = (layout.block(), layout.width(), layout.context());
            let expected = (width, self.hidden, Some(self.context));
            if found != expected {
                return Err(part.mismatch(name, &format!("{found:?}"), &format!("{expected:?}")));
            }
            Ok(function)
        });
        let heads = self.heads.iter().map(|part| {
            let function = part.find(name)?;
            let layout = part.layout(function)?;
            let rows = match &*part.signature(function).outputs {
                [logits] => logits.shape.get(1).copied().unwrap_or(0),
                _ => 0,
            };
            let found = (layout.block(), layout.width(), layout.context(), rows);
            let expected = (width, self.hidden, None, part.rows);
            if found != expected {
                return Err(part.mismatch(name, &format!("{found:?}"), &format!("{expected:?}")));
            }
            Ok(function)
        });
        let program = Program {
            width,
            layers: layers.collect::<Result<_, _>>()?,
            heads: heads.collect::<Result<_, _>>()?,
        };
        // Shards of layers take turns with one set of inputs, and so do heads.
        for (parts, functions) in [(&self.layers, &program.layers), (&self.heads, &program.heads)] {
            let mut inputs =
                parts.iter().zip(functions).map(|(part, &function)| &part.signature(function).inputs);
            let first = inputs.next();
            if inputs.any(|inputs| Some(inputs) != first) {
                let message = format!("the shards' functions `{name}` differ in their inputs");
                return Err(SessionError::Parts(message));
            }
        }
        Ok(program)
    }
}

impl Part {
    fn find(&self, name: &str) -> Result<usize, SessionError> {
        self.shard.find(name).map_err(|source| SessionError::Shard { path: self.path.clone(), source })
    }

    /// The interface of a function that [`Model::open`] found.
    pub(super) fn signature(&self, function: usize) -> &Signature {
        &self.shard.functions()[function].signature
    }

    pub(super) fn layout(&self, function: usize) -> Result<PassLayout, SessionError> {
        PassLayout::from_signature(self.signature(function))
            .map_err(|source| SessionError::Pass { path: self.path.clone(), source })
    }

    fn mismatch(&self, name: &str, found: &str, expected: &str) -> SessionError {
        SessionError::Parts(format!(
            "{}: function `{name}` has (tokens, width, context, rows) {found}, the model {expected}",
            self.path.display()
        ))
    }
}

/// What can be wrong with the numbers alone.
fn check(parts: &Parts) -> Result<(), SessionError> {
    let refuse = |reason: String| Err(SessionError::Parts(reason));
    if parts.layers.is_empty() || parts.heads.is_empty() {
        return refuse("it has no layers or no head; a session needs the whole model".to_owned());
    }
    if !parts.widths.contains(&parts.block) || parts.widths.contains(&0) {
        return refuse(format!(
            "its block of {} tokens is none of its widths {:?}",
            parts.block, parts.widths
        ));
    }
    let mut end = 0;
    for head in &parts.heads {
        if head.rows.start != end || head.rows.is_empty() {
            let (path, rows) = (head.path.display(), &head.rows);
            return refuse(format!("the vocabulary rows {rows:?} of {path} do not follow row {end}"));
        }
        end = head.rows.end;
    }
    if end != parts.vocab {
        return refuse(format!("its heads end at row {end} of a vocabulary of {}", parts.vocab));
    }
    Ok(())
}
