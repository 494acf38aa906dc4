//! The exactness gate over a whole model, as a stage and as a command.

use anepipe_runtime::bundle::Parts;
use anepipe_runtime::device::Device;

use super::whole::WholeModel;
use crate::error::StageError;
use crate::gates::exact::{self, ExactReport, Prompt};

/// Tokens behind each prompt if nothing else is said.
pub const DEFAULT_MAX_NEW: usize = 128;

/// Loads the model of `parts` on `device` and decodes `max_new` tokens behind each prompt, with and without drafts. `on_prompt` is
/// told how many are done.
pub fn run(
    device: &dyn Device,
    parts: &Parts,
    prompts: &[Prompt],
    max_new: usize,
    on_prompt: impl FnMut(usize),
) -> Result<ExactReport, StageError> {
    let whole = WholeModel::open(parts, device)?;
    let prompts: Vec<_> = prompts.iter().map(|prompt| whole.tokens(prompt)).collect();
    Ok(exact::check(&whole.model, &prompts, max_new, on_prompt)?)
}
