//! What a build would do, found out without doing it.

use std::collections::{BTreeMap, BTreeSet};

use anepipe_artifacts::{Artifact, Reason, Store};
use serde::Serialize;

use super::plan::Plan;
use crate::action::{Action, Input};
use crate::error::StageError;
use crate::event::{ActionId, Label};
use crate::scheduler::digests;

/// What would become of one action.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "would", rename_all = "snake_case")]
pub enum Fate {
    /// Nothing: its outputs are in the store.
    Reuse,
    /// It would run.
    Run {
        /// Why.
        reasons: Vec<Reason>,
    },
    /// It reads what would be made anew. Should that come out the same as before, it would not run.
    Follow {
        /// The actions it waits for.
        after: Vec<String>,
    },
}

/// One action and its fate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preview {
    /// The action.
    #[serde(flatten)]
    pub label: Label,
    /// What would become of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// Looks every action of `plan` up and runs none.
pub fn preview(plan: &Plan<'_>, store: &Store) -> Result<Vec<Preview>, StageError> {
    let mut known: Vec<Option<BTreeMap<String, Artifact>>> = Vec::new();
    let mut previews = Vec::new();
    for action in plan.graph.actions() {
        let (fate, outputs) = fate_of(action, plan, &known, store)?;
        known.push(outputs);
        previews.push(Preview { label: action.label.clone(), fate });
    }
    Ok(previews)
}

type Outputs = Option<BTreeMap<String, Artifact>>;

fn fate_of(
    action: &Action<'_>,
    plan: &Plan<'_>,
    known: &[Outputs],
    store: &Store,
) -> Result<(Fate, Outputs), StageError> {
    let mut inputs = BTreeMap::new();
    let mut after = BTreeSet::new();
    for (name, input) in &action.inputs {
        let Input::Output { action: from, name: output } = input else { continue };
        match known.get(from.0).and_then(Option::as_ref).and_then(|outputs| outputs.get(*output)) {
            Some(artifact) => {
                inputs.insert(name.clone(), *artifact);
            }
            None => {
                after.insert(*from);
            }
        }
    }
    if !after.is_empty() {
        let label = |id: ActionId| plan.graph.actions().get(id.0).map(|needed| needed.label.to_string());
        return Ok((Fate::Follow { after: after.into_iter().filter_map(label).collect() }, None));
    }
    let manifest = action.manifest(digests(action, &inputs));
    if let Some(record) = store.lookup(&manifest.key())? {
        return Ok((Fate::Reuse, Some(record.outputs)));
    }
    let last = store.last_run(action.label.stage.name(), &action.label.subject)?;
    let reasons = match last {
        Some(last) => anepipe_artifacts::explain(&last.key_manifest, &manifest.to_value()),
        None => vec![Reason::Missing],
    };
    Ok((Fate::Run { reasons }, None))
}
