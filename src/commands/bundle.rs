//! Opening bundles, which are checked on the way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anepipe_artifacts::Store;
use anepipe_pipeline::config::Config;
use anepipe_runtime::bundle::{self, Bundle, BundleError};

use super::store_folder;
use crate::cli::Global;

/// A file from this size on is hashed once and then believed while the file system says that nobody changed it.
const REMEMBERED: u64 = 1 << 20;

/// Opens the bundle that was named, or where the project's builds go, and checks every file of it against its manifest.
pub(super) fn open(named: Option<&PathBuf>, config: &Config, global: &Global) -> Result<Bundle, BundleError> {
    let default = || config.build.out.clone().unwrap_or_else(|| PathBuf::from("out"));
    let root = named.cloned().unwrap_or_else(default);
    // A store that is busy, or that this user may not write to, costs the memory and nothing else.
    let store = store_folder(global).ok().and_then(|folder| Store::open_within(folder, Duration::ZERO).ok());
    Bundle::open_with(&root, &|path| digest(store.as_ref(), path))
}

fn digest(store: Option<&Store>, path: &Path) -> std::io::Result<String> {
    if let Some(store) = store
        && fs_err::metadata(path)?.len() >= REMEMBERED
        && let Ok((digest, _)) = store.digest_of_input(path)
    {
        return Ok(digest.to_string());
    }
    bundle::hash(path)
}
