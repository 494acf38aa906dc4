//! The exactness gate: speculative decoding must give the tokens of plain decoding, every one of them.
//!
//! Faster and almost the same is what others have. Here drafts may change how many passes a text takes and nothing else. It follows
//! from the invariances that the parity gate proves of each shard; this gate looks at the whole of it, at the loop, the drafters and
//! all shards together, by decoding prompts twice:
//!
//! | case | speculative side |
//! |---|---|
//! | `ngram` | drafts from the text so far, as in use; tokens per pass are this case's |
//! | `wrong` | every draft token is wrong: each token comes out of a pass of T, whose other slots are all rejected |
//! | `foretold` | the plain side's own tokens as drafts, every third one spoiled: long drafts, accepted and rejected in all slots |
//! | `sampled` | as `ngram`, with tokens drawn by chance from one seed |
//!
//! The plain side runs one token a pass through the narrowest program, from a fresh KV cache for each prompt. The speculative side
//! uses one session for everything, so that it has behind its masks whatever earlier prompts left there.

mod drafters;
mod prompts;
mod render;
mod report;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;

use anepipe_runtime::decode::{
    Choose, DecodeError, Decoder, Drafting, Generated, Limits, Monotonic, Sampling, SamplingError,
};
use anepipe_runtime::draft::{Drafter, NgramDrafter, Off};
use anepipe_runtime::session::{Model, Session, SessionError};
use anepipe_runtime::token::TokenId;

pub use prompts::{Content, Prompt, PromptsError, default_prompts, read_prompts};
pub use report::{Case, CaseFigures, ClassFigures, Divergence, ExactReport, SCHEMA};

use drafters::Foretold;
use report::Tally;

/// A prompt as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// What reports call it.
    pub id: String,
    /// Its kind; figures are given for each.
    pub class: String,
    /// At least one token of the model.
    pub ids: Vec<TokenId>,
}

/// Why the gate could not be run. Tokens that differ are not an error but a report.
#[derive(Debug, thiserror::Error)]
pub enum ExactError {
    /// The model could not be run on a prompt.
    #[error("exactness gate, prompt {prompt}: {source}")]
    Decode {
        /// The prompt.
        prompt: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// There is nothing to decode.
    #[error("exactness gate: there are no prompts; give a file with at least one")]
    NoPrompts,
    /// No session can be made.
    #[error("exactness gate: {0}")]
    Session(#[from] SessionError),
    /// The gate's own sampling options are refused.
    #[error("exactness gate: {0}")]
    Sampling(#[from] SamplingError),
}

/// Decodes `max_new` tokens behind each of `prompts`, as far as the context goes, with every drafter and without one. `on_prompt` is
/// told how many prompts are done.
pub fn check(
    model: &Arc<Model>,
    prompts: &[Tokens],
    max_new: usize,
    mut on_prompt: impl FnMut(usize),
) -> Result<ExactReport, ExactError> {
    if prompts.is_empty() {
        return Err(ExactError::NoPrompts);
    }
    let mut session = Session::new(model)?;
    let mut tally = Tally::new(max_new);
    for (done, prompt) in prompts.iter().enumerate() {
        on_prompt(done);
        check_prompt(&mut session, prompt, max_new, &mut tally)?;
    }
    on_prompt(prompts.len());
    Ok(tally.report(model.device()))
}

/// The draw of the `sampled` case: close enough to the likeliest that drafts are accepted, far enough that they are not always.
const SAMPLING: Sampling = Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, seed: 0 };

fn check_prompt(
    session: &mut Session,
    prompt: &Tokens,
    max_new: usize,
    tally: &mut Tally,
) -> Result<(), ExactError> {
    let model = Arc::clone(session.model());
    let ids = fitting(&prompt.ids, model.context());
    let run = |session: &mut Session, choose: Choose, drafting, drafter: &mut dyn Drafter| {
        let clock = Monotonic::new();
        let mut decoder = Decoder { choose, drafter, drafting, clock: &clock };
        // Whole texts, whatever ends one: the more tokens, the more is seen.
        let limits = Limits { max_new, end_of_text: &[] };
        decoder
            .generate(session, ids, limits, |_| ControlFlow::Continue(()))
            .map_err(|source| ExactError::Decode { prompt: prompt.id.clone(), source })
    };
    let sampled = Choose::new(&SAMPLING)?;
    let plain = |choose: &Choose| -> Result<Generated, ExactError> {
        run(&mut Session::new(&model)?, choose.clone(), Drafting::Never, &mut Off)
    };
    let greedy = plain(&Choose::Greedy)?;
    let drawn = plain(&sampled)?;
    let vocab = model.vocab() as TokenId;
    let cases: [(Case, &Generated, Choose, &mut dyn Drafter); 4] = [
        (Case::Ngram, &greedy, Choose::Greedy, &mut NgramDrafter::new()),
        (Case::Wrong, &greedy, Choose::Greedy, &mut Foretold::new(ids, &greedy.tokens, 1, vocab)),
        (Case::Foretold, &greedy, Choose::Greedy, &mut Foretold::new(ids, &greedy.tokens, 3, vocab)),
        (Case::Sampled, &drawn, sampled, &mut NgramDrafter::new()),
    ];
    for (case, expected, choose, drafter) in cases {
        session.rewind(0);
        let found = run(session, choose, Drafting::Always, drafter)?;
        tally.add(prompt, case, expected, &found);
    }
    Ok(())
}

/// The end of a prompt, so that half of the context is left to generate in.
fn fitting(ids: &[TokenId], context: usize) -> &[TokenId] {
    let most = (context / 2).max(1);
    &ids[ids.len().saturating_sub(most)..]
}
