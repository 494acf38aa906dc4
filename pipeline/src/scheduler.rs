//! Brings every action of a graph up to date, in parallel, running only what the store does not have.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anepipe_artifacts::{ActionRecord, Artifact, Digest, Key, KeyManifest, Reason, Store};

use crate::action::{Action, ActionGraph, Input, Job};
use crate::error::StageError;
use crate::event::{ActionId, Event, Events, Outcome};
use crate::verdict::Verdict;

/// What to do with the rest of the graph after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepGoing {
    /// Start nothing more.
    #[default]
    Never,
    /// Go on with all that does not depend on the failure.
    Dependents,
    /// As `Dependents`, and a gate that did not pass stops nothing but the ship.
    Always,
}

/// How to run a graph.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Actions at once; at least 1.
    pub jobs: usize,
    /// What a failure stops.
    pub keep_going: KeepGoing,
    /// Run everything, whatever the store has.
    pub force: bool,
}

/// How one action ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// What it gave, by name; empty unless it ran or was cached (a gate that did not pass gives its report).
    pub outputs: BTreeMap<String, Artifact>,
    /// What went wrong.
    pub error: Option<StageError>,
}

/// What is known of an action.
enum Status {
    Waiting,
    Running,
    Ended(Box<Ended>),
}

/// The scheduler's shared state.
struct Progress {
    status: Vec<Status>,
    /// Set after a failure under [`KeepGoing::Never`].
    stopping: bool,
}

struct Scheduler<'run, 'graph> {
    graph: &'run ActionGraph<'graph>,
    store: &'run Store,
    events: &'run Events,
    options: Options,
    progress: Mutex<Progress>,
    changed: Condvar,
}

/// Runs `graph` and says how each action ended, by position.
pub fn run(graph: &ActionGraph<'_>, store: &Store, events: &Events, options: Options) -> Vec<Ended> {
    let status = graph.actions().iter().map(|_| Status::Waiting).collect();
    let scheduler = Scheduler {
        graph,
        store,
        events,
        options,
        progress: Mutex::new(Progress { status, stopping: false }),
        changed: Condvar::new(),
    };
    events.emit(Event::Planned { actions: graph.labels() });
    std::thread::scope(|scope| {
        for _ in 1..options.jobs {
            scope.spawn(|| scheduler.work());
        }
        scheduler.work();
    });
    let progress = scheduler.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    let ended = progress.status.into_iter().map(|status| match status {
        Status::Ended(ended) => *ended,
        Status::Waiting | Status::Running => {
            skipped("the scheduler lost track of it; this is a bug in anepipe".to_owned())
        }
    });
    ended.collect()
}

fn skipped(why: String) -> Ended {
    Ended { outcome: Outcome::Skipped, outputs: BTreeMap::new(), error: Some(StageError::Skipped(why)) }
}

/// What a worker finds to do.
enum Next {
    Run(ActionId, BTreeMap<String, Artifact>),
    Skip(ActionId, String),
    Wait,
    Done,
}

impl Scheduler<'_, '_> {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One worker: takes the first action that can start until none is left.
    fn work(&self) {
        let mut progress = self.lock();
        loop {
            match self.next(&progress) {
                Next::Run(id, inputs) => {
                    progress.status[id.0] = Status::Running;
                    drop(progress);
                    let ended = self.bring_up_to_date(id, &inputs);
                    progress = self.lock();
                    if ended.outcome == Outcome::Failed && self.options.keep_going == KeepGoing::Never {
                        progress.stopping = true;
                    }
                    progress.status[id.0] = Status::Ended(Box::new(ended));
                    self.changed.notify_all();
                }
                Next::Skip(id, why) => {
                    progress.status[id.0] = Status::Ended(Box::new(skipped(why.clone())));
                    self.finished(id, Outcome::Skipped, None, 0.0, Some(why));
                    self.changed.notify_all();
                }
                Next::Wait => progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner),
                Next::Done => return,
            }
        }
    }

    fn next(&self, progress: &Progress) -> Next {
        let mut waiting = false;
        for (position, action) in self.graph.actions().iter().enumerate() {
            if !matches!(progress.status[position], Status::Waiting) {
                continue;
            }
            let id = ActionId(position);
            if progress.stopping {
                return Next::Skip(id, "the build stopped at its first failure".to_owned());
            }
            match self.inputs_of(action, progress) {
                Ok(Some(inputs)) => return Next::Run(id, inputs),
                Ok(None) => waiting = true,
                Err(why) => return Next::Skip(id, why),
            }
        }
        if waiting { Next::Wait } else { Next::Done }
    }

    /// The stored inputs of an action; `None` while something it needs has not ended, an error once it cannot start.
    fn inputs_of(
        &self,
        action: &Action<'_>,
        progress: &Progress,
    ) -> Result<Option<BTreeMap<String, Artifact>>, String> {
        for need in action.needs() {
            let Some(Status::Ended(ended)) = progress.status.get(need.0) else { return Ok(None) };
            let judged = action.gates.contains(&need);
            let forgiven = self.options.keep_going == KeepGoing::Always && !action.label.stage.needs_gates();
            match ended.outcome {
                Outcome::Ran | Outcome::Cached => {}
                Outcome::Failed if judged && forgiven && !ended.outputs.is_empty() => {}
                Outcome::Failed | Outcome::Skipped => {
                    let name = self.graph.actions().get(need.0).map(|needed| needed.label.to_string());
                    return Err(format!("it needs {}", name.unwrap_or_default()));
                }
            }
        }
        let mut inputs = BTreeMap::new();
        for (name, input) in &action.inputs {
            if let Input::Output { action: from, name: output } = input {
                let Some(Status::Ended(ended)) = progress.status.get(from.0) else { return Ok(None) };
                let artifact =
                    ended.outputs.get(*output).ok_or_else(|| format!("no stage gave it {output}"))?;
                inputs.insert(name.clone(), *artifact);
            }
        }
        Ok(Some(inputs))
    }

    /// Looks the action up and runs it on a miss.
    fn bring_up_to_date(&self, id: ActionId, inputs: &BTreeMap<String, Artifact>) -> Ended {
        let Some(action) = self.graph.actions().get(id.0) else {
            return skipped("no such action".to_owned());
        };
        let manifest = action.manifest(digests(action, inputs));
        let key = manifest.key();
        let began = Instant::now();
        let (outcome, result) = match self.lookup(&key) {
            Ok(Some(outputs)) => (Outcome::Cached, Ok(outputs)),
            Ok(None) => {
                let reasons = self.reasons(action, &manifest);
                self.events.emit(Event::Started { action: id, reasons });
                (Outcome::Ran, self.execute(id, action, inputs, &manifest))
            }
            Err(error) => (Outcome::Failed, Err(error)),
        };
        let ended = match result {
            Ok(outputs) => self.judge(action, outcome, outputs),
            Err(error) => failed(BTreeMap::new(), error),
        };
        let seconds = if outcome == Outcome::Cached { 0.0 } else { began.elapsed().as_secs_f64() };
        self.finished(id, ended.outcome, Some(key), seconds, ended.error.as_ref().map(ToString::to_string));
        ended
    }

    /// The stored outputs of `key`.
    fn lookup(&self, key: &Key) -> Result<Option<BTreeMap<String, Artifact>>, StageError> {
        if self.options.force {
            return Ok(None);
        }
        Ok(self.store.lookup(key)?.map(|record| record.outputs))
    }

    /// Why an action that the store does not have must run.
    fn reasons(&self, action: &Action<'_>, manifest: &KeyManifest) -> Vec<Reason> {
        if self.options.force {
            return vec![Reason::Forced];
        }
        // Reasons are for people: an index that cannot be read must not stop the build.
        match self.store.last_run(action.label.stage.name(), &action.label.subject) {
            Ok(Some(last)) => anepipe_artifacts::explain(&last.key_manifest, &manifest.to_value()),
            Ok(None) | Err(_) => vec![Reason::Missing],
        }
    }

    /// Runs the action and records what it gave.
    fn execute(
        &self,
        id: ActionId,
        action: &Action<'_>,
        inputs: &BTreeMap<String, Artifact>,
        manifest: &KeyManifest,
    ) -> Result<BTreeMap<String, Artifact>, StageError> {
        let began = Instant::now();
        let scratch = self.store.scratch(action.label.stage.name())?;
        let mut job = Job::new(self.store, scratch, inputs, self.events.meter(id));
        catch_unwind(AssertUnwindSafe(|| (action.run)(&mut job))).unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what =
                what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
            Err(StageError::Internal(what.to_owned()))
        })?;
        let outputs = job.into_outputs();
        let record = ActionRecord::new(manifest, &action.label.subject, outputs.clone(), began.elapsed());
        self.store.record(&manifest.key(), &record)?;
        Ok(outputs)
    }

    /// Turns a gate's report into its outcome; every other stage stays as it is.
    fn judge(&self, action: &Action<'_>, outcome: Outcome, outputs: BTreeMap<String, Artifact>) -> Ended {
        if !action.label.stage.is_gate() {
            return Ended { outcome, outputs, error: None };
        }
        match self.verdict(&outputs) {
            Ok(Verdict { pass: true, .. }) => Ended { outcome, outputs, error: None },
            Ok(verdict) if verdict.is_prediction() && !action.predictions_decide => {
                Ended { outcome, outputs, error: None }
            }
            Ok(Verdict { reason, .. }) => {
                let reason = reason.unwrap_or_else(|| "its report says that it did not pass".to_owned());
                failed(outputs, StageError::Gate { stage: action.label.stage, reason })
            }
            Err(error) => failed(BTreeMap::new(), error),
        }
    }

    fn verdict(&self, outputs: &BTreeMap<String, Artifact>) -> Result<Verdict, StageError> {
        let report =
            outputs.get("report").ok_or_else(|| StageError::Internal("a gate gave no report".to_owned()))?;
        let bytes = self.store.read(report)?;
        Verdict::of(&bytes)
            .map_err(|error| StageError::Internal(format!("a gate's report is unreadable: {error}")))
    }

    fn finished(
        &self,
        action: ActionId,
        outcome: Outcome,
        key: Option<Key>,
        seconds: f64,
        error: Option<String>,
    ) {
        let key = key.map(|key| key.to_string());
        self.events.emit(Event::Finished { action, outcome, key, seconds, error });
    }
}

fn failed(outputs: BTreeMap<String, Artifact>, error: StageError) -> Ended {
    Ended { outcome: Outcome::Failed, outputs, error: Some(error) }
}

/// The digest of every input, stored or not.
pub(crate) fn digests<'a>(
    action: &'a Action<'_>,
    stored: &'a BTreeMap<String, Artifact>,
) -> impl Iterator<Item = (String, Digest)> + 'a {
    let external = action.inputs.iter().filter_map(|(name, input)| match input {
        Input::External(digest) => Some((name.clone(), *digest)),
        Input::Output { .. } => None,
    });
    external.chain(stored.iter().map(|(name, artifact)| (name.clone(), *artifact.digest())))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Map, json};

    use super::*;
    use crate::event::Label;
    use crate::stage::Stage;

    /// An action for tests: gives `text` as its output `out`, and counts its runs.
    fn action<'a>(
        stage: Stage,
        subject: &str,
        parameter: u32,
        needs: &[ActionId],
        gates: &[ActionId],
        runs: &Arc<AtomicUsize>,
        text: Result<&'a str, &'a str>,
    ) -> Action<'a> {
        let runs = runs.clone();
        let output = if stage.is_gate() { "report" } else { "out" };
        let input = |id: &ActionId| (format!("input {}", id.0), Input::Output { action: *id, name: "out" });
        Action {
            label: Label { stage, subject: subject.to_owned() },
            parameters: Map::from_iter([("parameter".to_owned(), json!(parameter))]),
            environment: Map::new(),
            inputs: needs.iter().map(input).collect(),
            gates: gates.to_vec(),
            predictions_decide: false,
            run: Box::new(move |job| {
                runs.fetch_add(1, Ordering::SeqCst);
                let text = text.map_err(|why| StageError::Usage(why.to_owned()))?;
                job.output_bytes(output, text.as_bytes())
            }),
        }
    }

    fn outcomes(graph: &ActionGraph<'_>, store: &Store, keep_going: KeepGoing) -> Vec<Outcome> {
        let options = Options { jobs: 2, keep_going, force: false };
        run(graph, store, &Events::new(vec![]), options).iter().map(|ended| ended.outcome).collect()
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path().join("cache")).expect("a store");
        (folder, store)
    }

    #[test]
    fn an_unchanged_output_stops_the_wave() {
        use Outcome::{Cached, Ran};
        let (_folder, store) = store();
        let runs = Arc::new(AtomicUsize::new(0));
        let build = |parameter, text| {
            let mut graph = ActionGraph::default();
            let first = graph.add(action(Stage::Extract, "a", parameter, &[], &[], &runs, Ok(text)));
            let second = graph.add(action(Stage::Quantize, "a", 0, &[first], &[], &runs, Ok("q")));
            graph.add(action(Stage::Convert, "a", 0, &[second], &[], &runs, Ok("c")));
            outcomes(&graph, &store, KeepGoing::Never)
        };
        assert_eq!(build(1, "x"), [Ran, Ran, Ran]);
        assert_eq!(build(1, "x"), [Cached, Cached, Cached]);
        assert_eq!(build(2, "x"), [Ran, Cached, Cached], "another key, the same output");
        assert_eq!(build(3, "y"), [Ran, Ran, Cached], "the wave ends where an output is the same again");
        assert_eq!(runs.load(Ordering::SeqCst), 6);
    }

    #[test]
    fn a_failure_stops_what_each_mode_says() {
        use Outcome::{Failed, Ran, Skipped};
        for (keep_going, expected) in [
            (KeepGoing::Never, None),
            (KeepGoing::Dependents, Some([Failed, Skipped, Ran, Ran])),
            (KeepGoing::Always, Some([Failed, Skipped, Ran, Ran])),
        ] {
            let (_folder, store) = store();
            let runs = Arc::new(AtomicUsize::new(0));
            let mut graph = ActionGraph::default();
            let bad = graph.add(action(Stage::Extract, "bad", 0, &[], &[], &runs, Err("no")));
            graph.add(action(Stage::Quantize, "bad", 0, &[bad], &[], &runs, Ok("q")));
            let good = graph.add(action(Stage::Extract, "good", 0, &[], &[], &runs, Ok("x")));
            graph.add(action(Stage::Quantize, "good", 0, &[good], &[], &runs, Ok("q")));
            let found = outcomes(&graph, &store, keep_going);
            match expected {
                Some(expected) => assert_eq!(found, expected, "{keep_going:?}"),
                None => assert_eq!(found[..2], [Failed, Skipped], "{keep_going:?}"),
            }
        }
    }

    #[test]
    fn a_gate_that_says_no_stops_the_ship_in_every_mode_and_is_remembered() {
        use Outcome::{Failed, Skipped};
        for keep_going in [KeepGoing::Never, KeepGoing::Dependents, KeepGoing::Always] {
            let (_folder, store) = store();
            let runs = Arc::new(AtomicUsize::new(0));
            for _ in 0..2 {
                let mut graph = ActionGraph::default();
                let report = Ok(r#"{"pass": false, "reason": "token 3"}"#);
                let gate = graph.add(action(Stage::Parity, "a", 0, &[], &[], &runs, report));
                graph.add(action(Stage::Ship, "bundle", 0, &[], &[gate], &runs, Ok("b")));
                assert_eq!(outcomes(&graph, &store, keep_going), [Failed, Skipped], "{keep_going:?}");
            }
            assert_eq!(runs.load(Ordering::SeqCst), 1, "the gate ran once, the ship never");
        }
    }

    #[test]
    fn a_panic_is_a_failure_of_its_action_and_leaves_the_store_whole() {
        let (_folder, store) = store();
        let mut graph = ActionGraph::default();
        let runs = Arc::new(AtomicUsize::new(0));
        let mut bad = action(Stage::Extract, "bad", 0, &[], &[], &runs, Ok(""));
        bad.run = Box::new(|_| panic!("on purpose"));
        graph.add(bad);
        let options = Options { jobs: 1, keep_going: KeepGoing::Never, force: false };
        let ended = run(&graph, &store, &Events::new(vec![]), options);
        let error = ended[0].error.as_ref().expect("a failure").to_string();
        assert!(error.contains("on purpose") && error.contains("bug in anepipe"), "{error}");
        assert!(store.verify(anepipe_artifacts::Repair::No).expect("a report").is_sound());
    }
}
