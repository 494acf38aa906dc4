//! Measures a bundle of a whole model: passes, prefill and decoding, each beside a plain read of memory by the same threads.
//!
//! A machine's speed drifts, and not by a little: memory that reads at 28 GB/s now reads at 17 in a minute. So nothing is measured
//! many times and then the next thing many times; each round measures everything once, and figures are medians over rounds. Ratios
//! are taken within a round and then the median of them.

mod decoding;
mod figure;
mod machine;
mod memory;
mod passes;
mod render;
mod report;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anepipe_pipeline::gates::exact::{Prompt, Tokens};
use anepipe_runtime::bundle::Bundle;
use anepipe_runtime::device::Device;
use anepipe_runtime::session::{Model, Session};
use anepipe_runtime::token::TokenId;
use anepipe_runtime::tokenizer::{Encode, Tokenizer};

use self::decoding::Decoding;
use self::figure::Series;
pub(crate) use self::machine::{Machine, cores};
use self::memory::{Memory, Weights};
use self::passes::Passes;
pub(crate) use self::report::BenchReport;
use self::report::{BundleFacts, Load, MemoryFigures, PrefillFigures, SCHEMA};

/// What is measured, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Times that each thing is measured.
    pub(crate) rounds: NonZeroUsize,
    /// Threads of the plain reads; the device has its own.
    pub(crate) threads: NonZeroUsize,
    /// Bytes that the plain read goes over.
    pub(crate) memory: usize,
    /// Tokens before a pass.
    pub(crate) contexts: Vec<usize>,
    /// Tokens of the prompt whose prefill is timed; 0 is none.
    pub(crate) prefill: usize,
    /// Tokens to decode behind each prompt; 0 is none.
    pub(crate) tokens: usize,
    /// Whether a prompt begins with what drafts learned from the prompts before it.
    pub(crate) keep: bool,
    /// What is decoded behind.
    pub(crate) prompts: Vec<Prompt>,
}

/// Measures. `opening` is how long it took to open the bundle, that is, to check every file of it. `on_step` is told how many
/// measurements of how many are done.
pub(crate) fn measure(
    bundle: &Bundle,
    opening: Duration,
    device: &dyn Device,
    machine: Machine,
    options: &Options,
    mut on_step: impl FnMut(usize, usize),
) -> anyhow::Result<BenchReport> {
    let parts = bundle.parts()?;
    let begun = Instant::now();
    let model = Arc::new(Model::open(&parts, device)?);
    let loaded = begun.elapsed();
    let begun = Instant::now();
    let mut session = Session::new(&model)?;
    let load = Load {
        check_seconds: opening.as_secs_f64(),
        model_seconds: loaded.as_secs_f64(),
        session_seconds: begun.elapsed().as_secs_f64(),
    };
    let weights = Weights::open(&parts)?;
    let mut memory = Memory::new(options.memory, options.threads)?;
    let mut passes = Passes::new(&model, &parts.widths, &options.contexts)?;
    let prompt = prefill_prompt(&model, options.prefill);
    let mut decoding = if options.tokens == 0 {
        None
    } else {
        let prompts = tokens(&options.prompts, &Tokenizer::read(&parts.tokenizer)?);
        Some(Decoding::new(prompts, options.tokens, options.keep, &model))
    };

    let of_round = 3 + passes.len() + usize::from(!prompt.is_empty()) + decoding.iter().count();
    let total = of_round * options.rounds.get();
    let mut done = 0;
    let mut step = || {
        done += 1;
        on_step(done, total);
    };
    let mut times = Times::default();
    // The first read of a mapping finds out where its pages are.
    memory.read_all(&weights);
    passes.warm_up()?;
    for round in 0..options.rounds.get() {
        times.read.push(memory.read());
        step();
        times.copy.push(memory.copy());
        step();
        times.weights.push(memory.read_all(&weights));
        step();
        passes.round(&mut step)?;
        if !prompt.is_empty() {
            session.rewind(0);
            let begun = Instant::now();
            session.prefill(&prompt)?;
            times.prefill.push(begun.elapsed().as_secs_f64());
            step();
        }
        if let Some(decoding) = &mut decoding {
            decoding.round(&mut session, round)?;
            step();
        }
    }

    let bytes = weights.bytes() as f64;
    let prefilled = times.prefill.figure().map(|seconds| PrefillFigures {
        tokens: prompt.len(),
        width: model.widest(),
        ms: seconds.scaled(1e3),
        tokens_per_second: seconds.rate(prompt.len() as f64),
    });
    Ok(BenchReport {
        schema: SCHEMA,
        anepipe: env!("CARGO_PKG_VERSION").to_owned(),
        machine,
        bundle: BundleFacts::new(bundle, &model, weights.bytes()),
        device: model.device().to_owned(),
        rounds: options.rounds.get(),
        load,
        memory: MemoryFigures {
            buffer_bytes: options.memory as u64,
            read_gbps: times.read.figure().map(|seconds| seconds.rate(options.memory as f64 / 1e9)),
            copy_gbps: times.copy.figure().map(|seconds| seconds.rate(memory.copied() as f64 / 1e9)),
            weights_ms: times.weights.figure().map(|seconds| seconds.scaled(1e3)),
            weights_gbps: times.weights.figure().map(|seconds| seconds.rate(bytes / 1e9)),
        },
        costs: passes.costs(),
        passes: passes.figures(bytes, &times.weights),
        prefill: prefilled,
        decode: decoding.map(Decoding::figures),
    })
}

/// Seconds, one a round.
#[derive(Default)]
struct Times {
    read: Series,
    copy: Series,
    weights: Series,
    prefill: Series,
}

/// Any tokens: what they are changes nothing about the time they take. As many as were asked for and fit.
fn prefill_prompt(model: &Model, tokens: usize) -> Vec<TokenId> {
    (0..tokens.min(model.context())).map(|index| some_token(index, model.vocab())).collect()
}

/// Tokens that differ from place to place, so that embedding rows are not all in cache.
fn some_token(index: usize, vocab: usize) -> TokenId {
    ((index * 7919 + 17) % vocab.max(1)) as TokenId
}

fn tokens(prompts: &[Prompt], tokenizer: &Tokenizer) -> Vec<Tokens> {
    let encode = |text: &str| tokenizer.encode(text, Encode { parse_special: false, add_special: true });
    prompts.iter().map(|prompt| prompt.tokens(encode)).collect()
}
