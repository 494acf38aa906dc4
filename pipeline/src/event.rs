//! What happens in a build, as it happens.
//!
//! The event stream is the single source: the progress display, the NDJSON log, the Chrome trace, the `JUnit` file and
//! the final summary are all readers of it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anepipe_artifacts::Reason;
use serde::Serialize;

use crate::stage::Stage;

/// The position of an action in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ActionId(pub usize);

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It ran, and its outputs are in the store.
    Ran,
    /// Its outputs were in the store.
    Cached,
    /// It ran and failed, or it is a gate that did not pass.
    Failed,
    /// It was not tried, because something before it failed.
    Skipped,
}

/// What a count of progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes read or written.
    Bytes,
    /// Tensors, tokens, passes.
    Items,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// The graph is known. Comes first, once.
    Planned {
        /// Every action, by position.
        actions: Vec<Label>,
    },
    /// An action was not in the store and begins.
    Started {
        /// Which.
        action: ActionId,
        /// Why it runs.
        reasons: Vec<Reason>,
    },
    /// An action is under way.
    Progress {
        /// Which.
        action: ActionId,
        /// How much is done.
        done: u64,
        /// Of how much.
        total: u64,
        /// Of what.
        unit: Unit,
    },
    /// An action ended.
    Finished {
        /// Which.
        action: ActionId,
        /// How.
        outcome: Outcome,
        /// Key in the store; absent when the action was skipped.
        key: Option<String>,
        /// Seconds it took; 0 when it did not run.
        seconds: f64,
        /// What went wrong.
        error: Option<String>,
    },
}

/// The name of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Label {
    /// Its stage.
    pub stage: Stage,
    /// What it works on, such as `layer 3`.
    pub subject: String,
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.stage.name(), self.subject)
    }
}

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timed {
    /// Seconds since the build began.
    pub at: f64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// A reader of the event stream. Called from whichever thread an event happens on, one event at a time, in order.
pub type Sink = Box<dyn FnMut(&Timed) + Send>;

/// Where events go.
pub struct Events {
    began: Instant,
    sinks: Mutex<Vec<Sink>>,
}

impl Events {
    /// A stream that begins now.
    pub fn new(sinks: Vec<Sink>) -> Self {
        Self { began: Instant::now(), sinks: Mutex::new(sinks) }
    }

    /// Tells every reader.
    pub fn emit(&self, event: Event) {
        // A reader that panicked has lost its own output and nothing else: the others go on.
        let mut sinks = self.sinks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let timed = Timed { at: self.began.elapsed().as_secs_f64(), event };
        for sink in sinks.iter_mut() {
            sink(&timed);
        }
    }

    /// A meter for one action.
    pub fn meter(&self, action: ActionId) -> Meter<'_> {
        Meter { events: self, action, told: Mutex::new(None) }
    }
}

/// Reports one action's progress, at most every 50 ms.
pub struct Meter<'a> {
    events: &'a Events,
    action: ActionId,
    told: Mutex<Option<Instant>>,
}

impl Meter<'_> {
    const PAUSE: Duration = Duration::from_millis(50);

    /// Says that `done` of `total` are done.
    pub fn set(&self, done: u64, total: u64, unit: Unit) {
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if done < total && told.is_some_and(|at| at.elapsed() < Self::PAUSE) {
            return;
        }
        *told = Some(Instant::now());
        drop(told);
        self.events.emit(Event::Progress { action: self.action, done, total, unit });
    }
}
