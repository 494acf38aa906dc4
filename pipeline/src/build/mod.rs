//! A whole build: from options to a bundle in the store, and from there to a folder.

mod model;
mod options;
mod plan;
mod preview;
mod ship;
mod workers;

use std::path::Path;

use anepipe_artifacts::{Artifact, How, Store};
use anepipe_runtime::bundle::{MANIFEST_FILE, read_manifest};

pub use self::model::Model;
pub use self::options::{
    BUILD_MAX_NEW, BUILD_PROMPTS, BuildOptions, DEFAULT_BLOCK, DEFAULT_CONTEXT, ExactOptions, Fault,
    GoldenOptions, ResidencyOptions,
};
pub use self::plan::{Plan, plan, rope_of};
pub use self::preview::{Fate, Preview, preview};
pub use self::workers::Workers;
use crate::error::StageError;
use crate::event::{Events, Label, Outcome};
use crate::scheduler::{self, Ended, Options};

/// How a build ended.
#[derive(Debug)]
pub struct Built {
    /// Every action and how it ended.
    pub actions: Vec<(Label, Ended)>,
    /// The bundle, if everything that it needs succeeded.
    pub bundle: Option<Artifact>,
}

impl Built {
    /// How many actions ended like that.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.actions.iter().filter(|(_, ended)| ended.outcome == outcome).count()
    }

    /// The actions that failed, in the order of the graph; what was skipped because of them is not among them.
    pub fn failures(&self) -> impl Iterator<Item = &(Label, Ended)> {
        self.actions.iter().filter(|(_, ended)| ended.outcome == Outcome::Failed)
    }
}

/// Runs a plan.
pub fn run(plan: &Plan<'_>, store: &Store, events: &Events, options: Options) -> Result<Built, StageError> {
    let ended = scheduler::run(&plan.graph, store, events, options);
    let bundle = ended.get(plan.ship.0).and_then(|ship| ship.outputs.get("bundle")).copied();
    let actions = plan.graph.labels().into_iter().zip(ended).collect();
    store.settle()?;
    Ok(Built { actions, bundle })
}

/// Whether a bundle may be put into `out`: it is not there, empty, or an earlier bundle and nothing else. Asked before a
/// build, so that nobody waits for a result that has no place.
pub fn check_out(out: &Path) -> Result<(), StageError> {
    let refuse =
        |why: String| StageError::Usage(format!("--out {}: {why}; choose another folder", out.display()));
    let mut extra = match fs_err::symlink_metadata(out) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(metadata) if !metadata.is_dir() => return Err(refuse("it is not a folder".to_owned())),
        Ok(_) => walkdir::WalkDir::new(out).into_iter(),
    };
    let earlier = read_manifest(out).map(|manifest| manifest.files).unwrap_or_default();
    let foreign = extra.find_map(|entry| {
        let entry = entry.ok()?;
        let inside = entry.path().strip_prefix(out).ok()?.to_str()?.to_owned();
        let ours = earlier.contains_key(&inside) || (inside == MANIFEST_FILE && !earlier.is_empty());
        (!entry.file_type().is_dir() && !ours).then_some(inside)
    });
    match foreign {
        Some(file) => Err(refuse(format!("it holds {file}, which no bundle left there"))),
        None => Ok(()),
    }
}

/// Puts a stored bundle into the folder `out`, which [`check_out`] allowed. Does nothing if it is there already.
pub fn publish(store: &Store, bundle: &Artifact, out: &Path) -> Result<(), StageError> {
    check_out(out)?;
    store.replace(bundle, out, How::Link)?;
    Ok(())
}
