//! What keeps the worst of everything that a device tells of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anepipe_runtime::portable::{Observed, Observer};

use super::limits::{NORM_FLOOR, NORM_PEAK};
use super::place::{self, Part, Shard, What};

/// The magnitude bits of fp16's infinity; NaN lies above.
const INFINITE: u16 = 0x7c00;

/// An observer of a whole model's shards: give it to the device before the model is loaded.
#[derive(Debug)]
pub struct Collector {
    shards: Vec<(PathBuf, Shard)>,
    /// Tokens that a pass can take, ascending.
    widths: Vec<usize>,
    seen: Mutex<Seen>,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Seen {
    pass: Pass,
    /// The shard that is running, and the part of it.
    running: Option<(usize, Part)>,
    worst: BTreeMap<Key, Worst>,
    first_spoiled: Option<(Key, Worst)>,
}

/// The pass that is running.
#[derive(Debug, Clone, Copy, Default)]
struct Pass {
    prompt: usize,
    start: usize,
    tokens: usize,
    /// Slots of its programs.
    width: usize,
}

/// A shard's index, a part of it, and what is looked at there.
pub(super) type Key = (usize, Part, What);

/// The worst value of its kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Worst {
    /// Absent if it is infinite or NaN.
    pub(super) value: Option<f64>,
    pub(super) operation: String,
    pub(super) prompt: usize,
    /// Absent if the tensor is not one of tokens.
    pub(super) position: Option<usize>,
}

impl Collector {
    /// An observer of `shards`, by their `.mlmodelc` folders in the order of a pass, whose passes take `widths` tokens.
    pub fn new(shards: Vec<(PathBuf, Shard)>, widths: &[u32]) -> Self {
        let mut widths: Vec<usize> = widths.iter().map(|&width| width as usize).collect();
        widths.sort_unstable();
        Self { shards, widths, seen: Mutex::default() }
    }

    /// Says that what comes now belongs to a pass over `tokens` tokens of a prompt, the first of them at position `start`.
    pub fn begin_pass(&self, prompt: usize, start: usize, tokens: usize) {
        let width = self.widths.iter().copied().find(|&width| width >= tokens).unwrap_or(tokens);
        let mut seen = self.seen();
        seen.pass = Pass { prompt, start, tokens, width };
        seen.running = None;
    }

    /// The file name of shard number `index`, and what it holds.
    pub(super) fn shard(&self, index: usize) -> Option<(&Path, &Shard)> {
        self.shards.get(index).map(|(path, shard)| (path.as_path(), shard))
    }

    /// The worst of everything, in the order of a pass, and what was first to be no number.
    pub(super) fn found(&self) -> (BTreeMap<Key, Worst>, Option<(Key, Worst)>) {
        let seen = self.seen();
        (seen.worst.clone(), seen.first_spoiled.clone())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Whoever panicked while counting did not leave anything half done that matters here.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Collector {
    fn observe(&self, observed: &Observed<'_>) {
        let Some(shard) = self.shards.iter().position(|(path, _)| path == observed.shard) else { return };
        let mut seen = self.seen();
        let before = match seen.running {
            Some((running, part)) if running == shard => part,
            _ if matches!(self.shards[shard].1, Shard::Head(_)) => Part::LmHead,
            _ => Part::Shared,
        };
        let part = place::part(observed.operation, before);
        seen.running = Some((shard, part));
        if let Some(what) = place::what(observed, part) {
            seen.take((shard, part, what), observed);
        }
    }
}

impl Seen {
    fn take(&mut self, key: Key, observed: &Observed<'_>) {
        let slots = Slots::of(observed, self.pass.width);
        let largest: Vec<Option<f64>> = slots.largest().into_iter().map(value).collect();
        for (slot, &largest) in largest.iter().enumerate() {
            self.note(key, observed, slots.is_of_tokens.then_some(slot), largest, f64::gt);
        }
        let (shard, part, What::NormInput) = key else { return };
        for (slot, ((squares, channels), largest)) in slots.squares().into_iter().zip(largest).enumerate() {
            let slot = slots.is_of_tokens.then_some(slot);
            // What is infinite or NaN has been noted, and has no rms.
            let Some(largest) = largest else { continue };
            let rms = Some((squares / channels.max(1) as f64).sqrt());
            let factor = NORM_PEAK / largest.max(NORM_FLOOR);
            let scaled = Some(squares * factor * factor);
            self.note((shard, part, What::NormRmsSmallest), observed, slot, rms, f64::lt);
            self.note((shard, part, What::NormRmsLargest), observed, slot, rms, f64::gt);
            self.note((shard, part, What::NormSquares), observed, slot, scaled, f64::gt);
        }
    }

    /// Keeps `value` if it is worse than what there is: the first that is no number, else the first of its size.
    fn note(
        &mut self,
        key: Key,
        observed: &Observed<'_>,
        slot: Option<usize>,
        value: Option<f64>,
        is_worse: impl Fn(&f64, &f64) -> bool,
    ) {
        let kept = self.worst.get(&key).map(|worst| worst.value);
        let worse = match (kept, value) {
            (None, _) | (Some(Some(_)), None) => true,
            (Some(Some(kept)), Some(value)) => is_worse(&value, &kept),
            (Some(None), _) => false,
        };
        if !worse {
            return;
        }
        let Pass { prompt, start, tokens, .. } = self.pass;
        // Slots that are left over repeat the last token.
        let position = slot.map(|slot| start + slot.min(tokens.saturating_sub(1)));
        let worst = Worst { value, operation: observed.operation.to_owned(), prompt, position };
        if value.is_none() && self.first_spoiled.is_none() {
            self.first_spoiled = Some((key, worst.clone()));
        }
        self.worst.insert(key, worst);
    }
}

/// A tensor as slots of a pass, on its axis 2, or as one.
struct Slots<'a> {
    observed: &'a Observed<'a>,
    count: usize,
    /// Elements that lie together.
    run: usize,
    is_of_tokens: bool,
}

impl<'a> Slots<'a> {
    fn of(observed: &'a Observed<'a>, width: usize) -> Self {
        match observed.shape {
            &[_, _, slots, run] if slots == width => Self { observed, count: slots, run, is_of_tokens: true },
            _ => Self { observed, count: 1, run: observed.values.len(), is_of_tokens: false },
        }
    }

    /// The largest magnitude in each slot, as bits.
    fn largest(&self) -> Vec<u16> {
        let mut largest = vec![0; self.count];
        for (index, run) in self.observed.values.chunks(self.run.max(1)).enumerate() {
            let largest = &mut largest[index % self.count];
            *largest = run.iter().fold(*largest, |largest, value| largest.max(value.to_bits() & 0x7fff));
        }
        largest
    }

    /// The sum of the squares in each slot, and how many there are.
    fn squares(&self) -> Vec<(f64, usize)> {
        let mut sums = vec![(0.0, 0); self.count];
        for (index, run) in self.observed.values.chunks(self.run.max(1)).enumerate() {
            let (sum, count) = &mut sums[index % self.count];
            *sum += run.iter().map(|value| value.to_f64() * value.to_f64()).sum::<f64>();
            *count += run.len();
        }
        sums
    }
}

/// The number that magnitude bits stand for, if it is one.
fn value(magnitude: u16) -> Option<f64> {
    (magnitude < INFINITE).then(|| half::f16::from_bits(magnitude).to_f64())
}
