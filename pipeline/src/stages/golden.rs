//! The golden gate over a whole model, as a stage and as a command.

use std::path::Path;
use std::sync::Arc;

use anepipe_gguf::Gguf;
use anepipe_runtime::bundle::Parts;
use anepipe_runtime::device::Device;
use anepipe_runtime::session::{Model, Session};
use half::f16;

use super::quantize::Quantization;
use super::whole::WholeModel;
use crate::error::StageError;
pub use crate::gates::golden::DEFAULT_TOKENS;
use crate::gates::golden::{
    self, DEFAULT_TEXT, GoldenError, GoldenReport, GoldenThresholds, Reference, Stored, Teacher,
    TeacherError, Text, TextSource,
};

/// What the gate is asked to look at.
#[derive(Debug, Clone)]
pub struct GoldenTask {
    /// What is read, and what to call it.
    pub text: (String, TextSource),
    /// Tokens of it at most.
    pub tokens: usize,
    /// What is demanded.
    pub thresholds: GoldenThresholds,
    /// How the shards' weights are stored.
    pub quantization: Quantization,
}

/// The text in the file at `path`, or the one that is built in.
pub fn read_text(path: Option<&Path>) -> Result<(String, TextSource), StageError> {
    Ok(match path {
        None => (DEFAULT_TEXT.to_owned(), TextSource::BuiltIn),
        Some(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (fs_err::read_to_string(path)?, TextSource::Given { name })
        }
    })
}

/// Loads the model of `parts` on `device` and compares its logits with those of the model file. `on_layer` is told of the
/// reference's progress.
pub fn run(
    device: &dyn Device,
    parts: &Parts,
    gguf: &Gguf,
    task: &GoldenTask,
    on_layer: impl FnMut(u32, u32),
) -> Result<GoldenReport, StageError> {
    let reference = Reference::open(gguf, parts.context).map_err(GoldenError::from)?;
    let whole = WholeModel::open(parts, device)?;
    let (text, source) = &task.text;
    let source = if whole.has_tokenizer() { source.clone() } else { TextSource::TokenIds };
    let text = Text::new(whole.encode(text), source, task.tokens, parts.context);
    let mut shards = Shards(whole.model);
    let stored = Stored {
        quantization: task.quantization,
        head_slices: parts.heads.iter().map(|head| head.rows.clone()).collect(),
    };
    Ok(golden::check(&reference, &stored, &text, &mut shards, &task.thresholds, on_layer)?)
}

/// The shards, forced along a text.
struct Shards(Arc<Model>);

impl Teacher for Shards {
    fn logits(
        &mut self,
        tokens: &[u32],
        on_logits: &mut dyn FnMut(usize, &[f16]),
    ) -> Result<(), TeacherError> {
        Ok(Session::new(&self.0)?.force(tokens, on_logits)?)
    }

    fn device(&self) -> &str {
        self.0.device()
    }
}
