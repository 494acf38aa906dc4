//! The parity gate: a shard that verifies several tokens a pass must compute, at every position, what it would compute for that
//! token alone.
//!
//! Three invariances, each shown by runs that differ in that one thing:
//!
//! | invariance | case | runs that must agree |
//! |---|---|---|
//! | slot | `block` | tokens in passes of 1, 2, … `T` · the same tokens one a pass |
//! | slot | `drafts` | those passes with foreign drafts in the free slots · with free slots unused |
//! | stale | `rejected` | those passes over what rejected drafts left in the KV cache · over zeros |
//! | stale | `poison` | those passes with large values in every row behind the mask · with zeros |
//! | width | `narrow` | one token a pass through the shard's program of another width · through this one |
//!
//! A verdict is made of per-token figures, of the hidden state and of what the shard added to it, never of an aggregate.
//! `docs/gates.md` tells why.

mod input;
mod metrics;
#[cfg(test)]
mod reference;
mod render;
mod report;
mod run;
#[cfg(test)]
mod tests;
mod thresholds;

use anepipe_runtime::device::{Shard, Signature};
use anepipe_runtime::error::RuntimeError;
use anepipe_runtime::pass::PassError;
use anepipe_runtime::rope::Rope;
use half::f16;
use rayon::prelude::*;

pub use report::{Case, Failure, Invariance, NotRun, ParityCheck, ParityReport, SCHEMA};
pub use thresholds::{Limits, ParityThresholds};

use input::Stream;
use report::Compared;
use run::{Disturbance, Runner};

/// One function of a loaded shard.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    /// The shard.
    pub shard: &'a dyn Shard,
    /// Which of its functions.
    pub function: usize,
}

impl<'a> Program<'a> {
    fn signature(self) -> Result<&'a Signature, Trouble> {
        let functions = self.shard.functions();
        let function = functions.get(self.function).ok_or_else(|| {
            let message =
                format!("it has {} functions, number {} was asked for", functions.len(), self.function);
            Trouble::from(RuntimeError::Mismatch(message))
        })?;
        Ok(&function.signature)
    }
}

/// A loaded shard under test.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// What reports call it, such as `layers 0..20`.
    pub name: &'a str,
    /// Name of the device that runs it.
    pub device: &'a str,
    /// The shard, in the width that ships.
    pub wide: Program<'a>,
    /// The same weights in another width, usually 1; the width invariance needs it.
    pub narrow: Option<Program<'a>>,
    /// The model's rotary embedding; not looked at for a head.
    pub rope: Option<&'a Rope>,
    /// Whether inputs are run at once, each on a thread and in a state of its own: for devices that compute on their caller's
    /// thread. The report is the same either way.
    pub at_once: bool,
}

/// Why the gate could not be run. A shard that fails the gate is not an error but a report.
#[derive(Debug, thiserror::Error)]
pub enum ParityError {
    /// The shard's interface or a pass of it is wrong.
    #[error("parity gate on {shard}: {source}")]
    Pass {
        /// The shard.
        shard: String,
        /// What is wrong.
        source: Box<PassError>,
    },
    /// The device refused.
    #[error("parity gate on {shard}: {source}")]
    Device {
        /// The shard.
        shard: String,
        /// What is wrong.
        source: Box<RuntimeError>,
    },
    /// No token embeddings were given.
    #[error("parity gate on {shard}: no token embeddings to feed; name tokens in [gates] token_ids")]
    NoTokens {
        /// The shard.
        shard: String,
    },
    /// The two widths are not of the same model.
    #[error(
        "parity gate on {shard}: the two widths have different interfaces ({wide} and {narrow}); rebuild the shard"
    )]
    Widths {
        /// The shard.
        shard: String,
        /// Hidden size and context of the shard that ships.
        wide: String,
        /// Those of the other program.
        narrow: String,
    },
}

/// Runs every case that applies to `subject`, on the embeddings `tokens` (in turn, as often as needed) and on random input.
/// A state is made per run; the shard is left as it was.
pub fn check(
    subject: &Subject<'_>,
    tokens: &[&[f16]],
    thresholds: &ParityThresholds,
) -> Result<ParityReport, ParityError> {
    Gate { subject, thresholds }.run(tokens).map_err(|error| {
        let shard = subject.name.to_owned();
        match error {
            Trouble::Pass(source) => ParityError::Pass { shard, source },
            Trouble::Device(source) => ParityError::Device { shard, source },
            Trouble::NoTokens => ParityError::NoTokens { shard },
            Trouble::Widths(wide, narrow) => ParityError::Widths { shard, wide, narrow },
        }
    })
}

/// A [`ParityError`] that does not know its shard yet.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Pass(Box<PassError>),
    #[error(transparent)]
    Device(Box<RuntimeError>),
    #[error("no tokens")]
    NoTokens,
    #[error("{0} and {1}")]
    Widths(String, String),
}

impl From<PassError> for Trouble {
    fn from(error: PassError) -> Self {
        Self::Pass(Box::new(error))
    }
}

impl From<RuntimeError> for Trouble {
    fn from(error: RuntimeError) -> Self {
        Self::Device(Box::new(error))
    }
}

struct Gate<'a> {
    subject: &'a Subject<'a>,
    thresholds: &'a ParityThresholds,
}

impl Gate<'_> {
    fn run(&self, tokens: &[&[f16]]) -> Result<ParityReport, Trouble> {
        let Subject { name, device, at_once, .. } = *self.subject;
        let (wide, narrow) = self.runners()?;
        let layout = wide.layout();
        if let Some(narrow) = &narrow {
            let describe = |runner: &Runner<'_>| {
                format!("{} wide, context {:?}", runner.layout().width(), runner.layout().context())
            };
            let (a, b) = (describe(&wide), describe(narrow));
            if a != b {
                return Err(Trouble::Widths(a, b));
            }
        }
        let plan = input::plan(layout.block(), layout.context());
        let streams = input::streams(tokens, layout.width(), layout.context(), &plan)?;
        let checks = if at_once {
            let checks = streams.par_iter().map(|stream| self.check_stream(stream, &plan));
            checks.collect::<Result<Vec<_>, _>>()?
        } else {
            streams.iter().map(|stream| self.check_stream(stream, &plan)).collect::<Result<_, _>>()?
        };
        let checks = checks.concat();
        let mut not_run = Vec::new();
        let mut skip = |invariance, reason: &str| {
            not_run.push(NotRun { invariance, reason: reason.to_owned() });
        };
        if layout.block() == 1 {
            skip(Invariance::Slot, "the shard has one slot");
        }
        if layout.context().is_none() {
            skip(Invariance::Stale, "the shard has no KV cache");
        }
        if narrow.is_none() {
            skip(Invariance::Width, "the shard has one width");
        }
        Ok(ParityReport {
            schema: SCHEMA,
            shard: name.to_owned(),
            device: device.to_owned(),
            block: layout.block(),
            context: layout.context(),
            pass: checks.iter().all(|check: &ParityCheck| check.pass),
            checks,
            not_run,
        })
    }

    /// One for each of the shard's programs.
    fn runners(&self) -> Result<(Runner<'_>, Option<Runner<'_>>), Trouble> {
        let Subject { wide, narrow, rope, .. } = *self.subject;
        Ok((Runner::new(wide, rope)?, narrow.map(|narrow| Runner::new(narrow, rope)).transpose()?))
    }

    fn check_stream(&self, stream: &Stream, plan: &[usize]) -> Result<Vec<ParityCheck>, Trouble> {
        let (mut wide, narrow) = self.runners()?;
        let mut checks = Vec::new();
        let ones = vec![1; stream.rows.len()];
        let attends = wide.layout().context().is_some();
        let slots: Vec<usize> = plan.iter().flat_map(|&count| 0..count).collect();
        let mut add = |invariance, case, slots: &[usize], expected: &[Vec<f16>], found: &[Vec<f16>]| {
            let limits = self.thresholds.limits(self.subject.device);
            let inputs = attends.then_some(stream.rows.as_slice());
            let compared = Compared { invariance, case, stream, slots, inputs, expected, found };
            checks.push(compared.judge(limits));
        };

        let alone = wide.decode(stream, &ones, Disturbance::None)?;
        let mut block = alone.clone();
        if wide.layout().block() > 1 {
            block = wide.decode(stream, plan, Disturbance::None)?;
            add(Invariance::Slot, Case::Block, &slots, &alone, &block);
            let drafts = wide.decode(stream, plan, Disturbance::Drafts)?;
            add(Invariance::Slot, Case::Drafts, &slots, &block, &drafts);
        }
        if attends {
            let rejected = wide.decode(stream, plan, Disturbance::Rejected)?;
            add(Invariance::Stale, Case::Rejected, &slots, &block, &rejected);
            let poison = Disturbance::Poison { peak: wide.peak() };
            let poisoned = wide.decode(stream, plan, poison)?;
            add(Invariance::Stale, Case::Poison, &slots, &block, &poisoned);
        }
        if let Some(mut narrow) = narrow {
            let narrow = narrow.decode(stream, &ones, Disturbance::None)?;
            add(Invariance::Width, Case::Narrow, &vec![0; narrow.len()], &alone, &narrow);
        }
        Ok(checks)
    }
}
