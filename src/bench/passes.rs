//! Passes of every number of tokens, at every context.

use std::sync::Arc;
use std::time::Instant;

use anepipe_runtime::session::{Model, Session, SessionError};
use anepipe_runtime::token::TokenId;
use half::f16;

use super::figure::Series;
use super::report::{CostFigures, PassFigures};
use super::some_token;

/// Passes that are measured whatever the bundle's programs: one token, and all that a block of four may carry.
const ALWAYS: [usize; 4] = [1, 2, 3, 4];

/// Seconds that a pass is measured for in each round, at least.
const ENOUGH: f64 = 0.02;

/// Every pass that is measured.
pub(super) struct Passes {
    contexts: Vec<Context>,
    block: usize,
}

/// A session that stands at one context, and its passes.
struct Context {
    session: Session,
    passes: Vec<Pass>,
}

/// A pass over some tokens.
struct Pass {
    tokens: Vec<TokenId>,
    /// Slots of the program that runs it.
    width: usize,
    seconds: Series,
}

impl Passes {
    /// Passes of 1 to 4 tokens and of each of the bundle's `widths`, at each of `contexts`. A context without room for the widest
    /// pass behind it is replaced by the longest that has.
    pub(super) fn new(model: &Arc<Model>, widths: &[u32], contexts: &[usize]) -> Result<Self, SessionError> {
        let mut widths: Vec<usize> = widths.iter().map(|&width| width as usize).collect();
        widths.sort_unstable();
        let mut tokens = [&ALWAYS[..], &widths].concat();
        tokens.retain(|&tokens| tokens <= model.widest());
        tokens.sort_unstable();
        tokens.dedup();
        let longest = model.context().saturating_sub(model.widest());
        let mut contexts: Vec<usize> = contexts.iter().map(|&context| context.min(longest)).collect();
        contexts.sort_unstable();
        contexts.dedup();
        let pass = |&tokens: &usize| Pass {
            tokens: (0..tokens).map(|index| some_token(index, model.vocab())).collect(),
            width: widths.iter().copied().find(|&width| width >= tokens).unwrap_or(tokens),
            seconds: Series::default(),
        };
        let context = |position| -> Result<Context, SessionError> {
            let mut session = Session::new(model)?;
            session.occupy(position, Noise::default().source())?;
            Ok(Context { session, passes: tokens.iter().map(pass).collect() })
        };
        let contexts = contexts.into_iter().map(context).collect::<Result<_, _>>()?;
        Ok(Self { contexts, block: model.block() })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.contexts.iter().map(|context| context.passes.len()).sum()
    }

    /// Runs each once, without looking at the time: the first pass of a width sizes the device's buffers.
    pub(super) fn warm_up(&mut self) -> Result<(), SessionError> {
        for Context { session, passes } in &mut self.contexts {
            for pass in passes {
                pass.run(session)?;
            }
        }
        Ok(())
    }

    /// Measures each once.
    pub(super) fn round(&mut self, step: &mut impl FnMut()) -> Result<(), SessionError> {
        for Context { session, passes } in &mut self.contexts {
            for pass in passes {
                pass.measure(session)?;
                step();
            }
        }
        Ok(())
    }

    /// What they took, beside reads of the same `bytes` of weights in the same rounds.
    pub(super) fn figures(&self, bytes: f64, reads: &Series) -> Vec<PassFigures> {
        let of = |position, pass: &Pass| {
            let seconds = pass.seconds.figure()?;
            Some(PassFigures {
                tokens: pass.tokens.len(),
                width: pass.width,
                context: position,
                ms: seconds.scaled(1e3),
                weights_gbps: seconds.rate(bytes / 1e9),
                of_read: pass.seconds.over(reads).figure(),
                tokens_per_second: seconds.rate(pass.tokens.len() as f64),
            })
        };
        let all =
            self.contexts.iter().flat_map(|context| context.passes.iter().map(move |pass| (context, pass)));
        all.filter_map(|(context, pass)| of(context.session.position(), pass)).collect()
    }

    /// c at each context: what a pass over a block costs in passes over one token.
    pub(super) fn costs(&self) -> Vec<CostFigures> {
        let of = |context: &Context| {
            let seconds = |tokens| {
                context.passes.iter().find(|pass| pass.tokens.len() == tokens).map(|pass| &pass.seconds)
            };
            let cost = seconds(self.block)?.over(seconds(1)?).figure()?;
            Some(CostFigures { context: context.session.position(), block: self.block, c: cost })
        };
        self.contexts.iter().filter_map(of).collect()
    }
}

impl Pass {
    /// Measures it. One that is over in no time is run again and again, and the median counts: the first one after something else
    /// finds the caches full of that, which in decoding it would not.
    fn measure(&mut self, session: &mut Session) -> Result<(), SessionError> {
        let (mut runs, mut spent) = (Series::default(), 0.0);
        while spent < ENOUGH {
            let seconds = self.run(session)?;
            runs.push(seconds);
            spent += seconds;
        }
        self.seconds.extend(runs.figure().map(|figure| figure.median));
        Ok(())
    }

    /// Runs it, all its tokens' logits included, and commits nothing. Gives seconds.
    fn run(&self, session: &mut Session) -> Result<f64, SessionError> {
        let begun = Instant::now();
        session.pass(&self.tokens)?;
        for slot in 0..self.tokens.len() {
            std::hint::black_box(session.logits(slot)?);
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}

/// Numbers from −1 to 1 that look like nothing in particular.
#[derive(Default)]
struct Noise(u64);

impl Noise {
    fn source(mut self) -> impl FnMut() -> f16 {
        move || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f16::from_f32((self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0)
        }
    }
}
