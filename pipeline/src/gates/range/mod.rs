//! The range gate: over real prompts, no value of any shard may leave what fp16 and the Neural Engine can hold.
//!
//! The portable device computes what a program says, with exact int8 products and fp32 sums. An engine that saturates computes
//! something else, without a word; and an fp16 value that overflows is an infinity everywhere, and NaN soon after. Neither shows in
//! a program: it takes inputs. So the gate forces prompts through the whole model, as prefill does, with a [`Collector`] that
//! looks at every result of every operation, and keeps the worst of each layer:
//!
//! | looked at | limit | beyond it |
//! |---|---|---|
//! | every value | finite: 65504 | the gate fails |
//! | inputs of int8 convolutions | 4094 | the gate fails: products are expected to saturate |
//! | inputs of fp16 convolutions, and every other value | 4094 | a warning |
//! | the norms' sums of scaled squares | 65504 | the gate fails: an engine that sums in fp16 overflows |
//! | rms of the norms' inputs | 0.001 to 50 | a warning: the norm was not measured there |
//!
//! [`Limits`] names the sources. `docs/gates.md` says what this shows and what not.

mod collect;
mod limits;
mod place;
mod render;
mod report;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anepipe_runtime::session::{Model, Session, SessionError};
use anepipe_runtime::token::TokenId;

pub use collect::Collector;
pub use limits::{Limits, NormLimits};
pub use place::{PartKind, Shard, What};
pub use report::{Bound, Entry, PartReport, RangeReport, SCHEMA, Verdict};

use super::exact::Tokens;

/// Why the gate could not be run. Values out of range are not an error but a report.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// The model could not be run on a prompt.
    #[error("range gate, prompt {prompt}: {source}")]
    Prompt {
        /// The prompt.
        prompt: String,
        /// What is wrong.
        source: SessionError,
    },
    /// There is nothing to run.
    #[error("range gate: there are no prompts; give a file with at least one")]
    NoPrompts,
}

/// Forces `prompts` through `model`, each from an empty cache and as far as the context goes, and reports what `collector`, which the
/// model's device tells of its values, saw. `on_prompt` is told how many are done.
pub fn check(
    model: &Arc<Model>,
    collector: &Collector,
    prompts: &[Tokens],
    mut on_prompt: impl FnMut(usize),
) -> Result<RangeReport, RangeError> {
    if prompts.is_empty() {
        return Err(RangeError::NoPrompts);
    }
    let mut tokens = 0;
    for (done, prompt) in prompts.iter().enumerate() {
        on_prompt(done);
        // From the front: what a model does at the first positions is often its loudest.
        let ids = &prompt.ids[..prompt.ids.len().min(model.context())];
        run(model, collector, done, ids)
            .map_err(|source| RangeError::Prompt { prompt: prompt.id.clone(), source })?;
        tokens += ids.len();
    }
    on_prompt(prompts.len());
    let names: Vec<&str> = prompts.iter().map(|prompt| prompt.id.as_str()).collect();
    Ok(RangeReport::new(model.device(), &names, tokens, collector))
}

fn run(
    model: &Arc<Model>,
    collector: &Collector,
    prompt: usize,
    ids: &[TokenId],
) -> Result<(), SessionError> {
    if ids.is_empty() {
        return Err(SessionError::EmptyPrompt);
    }
    // Of its own, so that what one prompt spoils is not blamed on the next.
    let mut session = Session::new(model)?;
    for chunk in ids.chunks(model.widest()) {
        collector.begin_pass(prompt, session.position(), chunk.len());
        session.pass(chunk)?;
        // Asked for the first token, the heads run for all of them.
        session.logits(0)?;
        session.commit(chunk.len())?;
    }
    Ok(())
}
