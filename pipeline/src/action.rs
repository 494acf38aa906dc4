//! One cached step of a build, and the graph of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anepipe_artifacts::{Artifact, Digest, KeyManifest, Scratch, Store};
use serde_json::{Map, Value};

use crate::error::StageError;
use crate::event::{ActionId, Label, Meter};

/// Where an action's input comes from.
#[derive(Debug, Clone)]
pub enum Input {
    /// Bytes outside the store that the action reads by itself; only their digest is known here.
    External(Digest),
    /// An output of an earlier action.
    Output {
        /// The earlier action.
        action: ActionId,
        /// The output's name.
        name: &'static str,
    },
}

/// What an action does on a miss.
pub type Run<'a> = Box<dyn Fn(&mut Job<'_>) -> Result<(), StageError> + Send + Sync + 'a>;

/// One cached step.
pub struct Action<'a> {
    /// Stage and subject. They name the action to people; only the stage is part of the key, so equal work on different
    /// subjects is done once.
    pub label: Label,
    /// All that shapes the outputs and is neither an input nor a tool. Part of the key.
    pub parameters: Map<String, Value>,
    /// Versions of the tools the stage leaves the process for. Part of the key.
    pub environment: Map<String, Value>,
    /// What it reads, by name. Digests are part of the key.
    pub inputs: BTreeMap<String, Input>,
    /// Gates that must have passed before it starts; not part of the key.
    pub gates: Vec<ActionId>,
    /// Of a gate: whether a no stops what waits for it even if its report says that it is only predicted. A measured no always does.
    pub predictions_decide: bool,
    /// The work.
    pub run: Run<'a>,
}

impl Action<'_> {
    /// The actions that must have ended before this one can start.
    pub fn needs(&self) -> BTreeSet<ActionId> {
        let inputs = self.inputs.values().filter_map(|input| match input {
            Input::Output { action, .. } => Some(*action),
            Input::External(_) => None,
        });
        inputs.chain(self.gates.iter().copied()).collect()
    }

    /// All that the action's outputs depend on; its digest is the key.
    pub fn manifest(&self, inputs: impl Iterator<Item = (String, Digest)>) -> KeyManifest {
        let stage = self.label.stage;
        let manifest = KeyManifest::new(stage.name(), stage.code());
        let manifest =
            self.parameters.iter().fold(manifest, |m, (name, value)| m.parameter(name, value.clone()));
        let manifest =
            self.environment.iter().fold(manifest, |m, (name, value)| m.environment(name, value.clone()));
        inputs.fold(manifest, |m, (name, digest)| m.input(name, digest))
    }
}

/// Actions in an order in which each stands after what it needs.
#[derive(Default)]
pub struct ActionGraph<'a> {
    actions: Vec<Action<'a>>,
}

impl<'a> ActionGraph<'a> {
    /// Adds an action. What it needs must have been added before: ids are handed out here and nowhere else, so a graph
    /// cannot have a cycle.
    pub fn add(&mut self, action: Action<'a>) -> ActionId {
        self.actions.push(action);
        ActionId(self.actions.len() - 1)
    }

    /// The actions, by position.
    pub fn actions(&self) -> &[Action<'a>] {
        &self.actions
    }

    /// The names, by position.
    pub fn labels(&self) -> Vec<Label> {
        self.actions.iter().map(|action| action.label.clone()).collect()
    }
}

/// An action at work: its inputs as files, a private folder, and its outputs so far.
pub struct Job<'a> {
    store: &'a Store,
    scratch: Scratch,
    inputs: &'a BTreeMap<String, Artifact>,
    outputs: BTreeMap<String, Artifact>,
    meter: Meter<'a>,
}

impl<'a> Job<'a> {
    pub(crate) fn new(
        store: &'a Store,
        scratch: Scratch,
        inputs: &'a BTreeMap<String, Artifact>,
        meter: Meter<'a>,
    ) -> Self {
        Self { store, scratch, inputs, outputs: BTreeMap::new(), meter }
    }

    /// The file that is the input `name`. Read-only: it lies in the store.
    pub fn input(&self, name: &str) -> Result<PathBuf, StageError> {
        let artifact = self.artifact(name)?;
        Ok(self.store.path_of(artifact.digest()))
    }

    /// The folder that is the input `name`, linked into the scratch folder as `as_name`.
    pub fn input_dir(&self, name: &str, as_name: &str) -> Result<PathBuf, StageError> {
        Ok(self.store.link_into(&self.scratch, &self.artifact(name)?, as_name)?)
    }

    /// The names of all inputs.
    pub fn input_names(&self) -> impl Iterator<Item = &str> {
        self.inputs.keys().map(String::as_str)
    }

    /// The stored input `name`.
    pub fn artifact(&self, name: &str) -> Result<Artifact, StageError> {
        self.inputs
            .get(name)
            .copied()
            .ok_or_else(|| StageError::Internal(format!("no input is called {name}")))
    }

    /// A folder of the action's own, gone when it ends.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The store itself, for stages that assemble stored things.
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// Moves a file or folder out of the scratch folder into the store, as the output `name`.
    pub fn output(&mut self, name: &'static str, path: &Path) -> Result<(), StageError> {
        let artifact = self.store.ingest(path)?;
        self.output_stored(name, artifact);
        Ok(())
    }

    /// Puts `bytes` into the store, as the output `name`.
    pub fn output_bytes(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), StageError> {
        let artifact = self.store.put_bytes(bytes)?;
        self.output_stored(name, artifact);
        Ok(())
    }

    /// Puts `value` as JSON into the store, as the output `name`.
    pub fn output_json(
        &mut self,
        name: &'static str,
        value: &impl serde::Serialize,
    ) -> Result<(), StageError> {
        let json =
            serde_json::to_vec_pretty(value).map_err(|error| StageError::Internal(error.to_string()))?;
        self.output_bytes(name, &json)
    }

    /// Names something that is in the store already as the output `name`.
    pub fn output_stored(&mut self, name: &'static str, artifact: Artifact) {
        self.outputs.insert(name.to_owned(), artifact);
    }

    /// Reports progress.
    pub fn meter(&self) -> &Meter<'a> {
        &self.meter
    }

    pub(crate) fn into_outputs(self) -> BTreeMap<String, Artifact> {
        self.outputs
    }
}
