//! Pushes a stream through a shard, pass by pass.

use anepipe_runtime::device::State;
use anepipe_runtime::pass::{BlockPass, PassLayout};
use anepipe_runtime::rope::Rope;
use anepipe_runtime::tensor::Tensor;
use half::f16;

use super::input::{Noise, Stream};
use super::{Program, Trouble};

/// What goes on around the tokens under test, and must not matter to them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Disturbance {
    /// Unused slots, and zeros behind the mask.
    None,
    /// Drafts in the slots that the tokens leave free. What they write is wiped before the next pass.
    Drafts,
    /// Before every other pass a whole pass of drafts, all rejected: what they wrote is there when the tokens follow, to be
    /// overwritten by some and to be hidden from all. Every other pass, so that some rows outlive the tokens that come first.
    Rejected,
    /// Before each pass, values of twice `peak` in every row of the cache that is not committed. Loud enough to be seen wherever
    /// one is let through, and still such that no score of hidden rows can overflow where those of visible rows are far from it.
    Poison {
        /// Largest magnitude that the cache holds without poison.
        peak: f32,
    },
}

/// A function of a shard with buffers for its passes.
pub(super) struct Runner<'a> {
    program: Program<'a>,
    pass: BlockPass,
    outputs: Vec<Tensor>,
    peak: f32,
}

impl<'a> Runner<'a> {
    pub(super) fn new(program: Program<'a>, rope: Option<&Rope>) -> Result<Self, Trouble> {
        let signature = program.signature()?;
        let pass = BlockPass::new(signature, rope)?;
        Ok(Self { program, pass, outputs: signature.new_outputs(), peak: 0.0 })
    }

    pub(super) fn layout(&self) -> &PassLayout {
        self.pass.layout()
    }

    /// Largest magnitude that tokens and drafts left in the cache in the latest [`Disturbance::Rejected`] run.
    pub(super) fn peak(&self) -> f32 {
        self.peak
    }

    /// Runs `stream` from a fresh state in passes of `counts` tokens. Gives one output a token: all that the shard's outputs hold
    /// in that token's slot.
    pub(super) fn decode(
        &mut self,
        stream: &Stream,
        counts: &[usize],
        disturbance: Disturbance,
    ) -> Result<Vec<Vec<f16>>, Trouble> {
        let mut state = self.program.shard.new_state();
        let state = state.as_mut();
        if stream.start > 0 {
            let mut noise = Noise::new("history");
            let layout = self.pass.layout();
            layout.rewrite_cache(state, 0..stream.start, |rows| noise.fill_flat(rows))?;
        }
        let mut results = Vec::with_capacity(stream.rows.len());
        let mut rest = stream.rows.as_slice();
        for (index, &count) in counts.iter().enumerate() {
            let (tokens, later) = rest.split_at(count.min(rest.len()));
            let start = stream.start + results.len();
            let drafts = stream.drafts.as_slice();
            let mut beside: &[Vec<f16>] = &[];
            match disturbance {
                Disturbance::Drafts => {
                    self.fill_from(state, start, |rows| rows.fill(f16::ZERO))?;
                    beside = drafts.get(tokens.len()..).unwrap_or_default();
                }
                Disturbance::Rejected if index.is_multiple_of(2) => self.pass(state, start, drafts.iter())?,
                Disturbance::Poison { peak } => {
                    let mut noise = Noise::new("poison");
                    let loud = f16::from_f32((2.0 * peak).clamp(1.0, f16::MAX.to_f32()));
                    self.fill_from(state, start, |rows| noise.fill_signs(rows, loud))?;
                }
                Disturbance::None | Disturbance::Rejected => {}
            }
            self.pass(state, start, tokens.iter().chain(beside))?;
            for slot in 0..tokens.len() {
                let mut result = Vec::new();
                for output in &self.outputs {
                    result.extend(self.pass.layout().row(output, slot)?);
                }
                results.push(result);
            }
            rest = later;
        }
        if matches!(disturbance, Disturbance::Rejected) {
            self.peak = self.pass.layout().cache_peak(state)?;
        }
        Ok(results)
    }

    /// One pass from position `start` on, of as many `rows` as the context has room for.
    fn pass<'r>(
        &mut self,
        state: &mut dyn State,
        start: usize,
        rows: impl Iterator<Item = &'r Vec<f16>>,
    ) -> Result<(), Trouble> {
        let room = self.layout().context().map_or(usize::MAX, |context| context.saturating_sub(start));
        let rows: Vec<&[f16]> = rows.take(room).map(Vec::as_slice).collect();
        self.pass.prepare(start, &rows)?;
        let Program { shard, function } = self.program;
        shard.predict(function, self.pass.inputs(), state, &mut self.outputs)?;
        Ok(())
    }

    /// Overwrites the cache from position `committed` on.
    fn fill_from(
        &self,
        state: &mut dyn State,
        committed: usize,
        rewrite: impl FnMut(&mut [f16]),
    ) -> Result<(), Trouble> {
        let layout = self.pass.layout();
        Ok(layout.rewrite_cache(state, committed..layout.context().unwrap_or(committed), rewrite)?)
    }
}
