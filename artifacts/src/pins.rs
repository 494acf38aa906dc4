//! Pins: names for what garbage collection must keep.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::error::{Doing, Result, StoreError};
use crate::key::Key;
use crate::objects::rename_into;
use crate::record::seconds_since_1970;
use crate::store::Store;

/// What a pin keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// An action's record and all its outputs.
    Action(Key),
    /// A file or directory.
    Artifact(Artifact),
}

/// A named root of garbage collection. Kept at `pins/<name>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// 1 to 64 letters, digits, `-`, `_` and `.`, not starting with a dot.
    pub name: String,
    /// What it keeps.
    pub target: Target,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

impl Store {
    /// Keeps `target` under `name` until [`unpin`](Self::unpin); a pin of that name is replaced. The target must be here.
    pub fn pin(&self, name: &str, target: Target) -> Result<()> {
        let path = self.pin_path(name)?;
        let here = match &target {
            Target::Action(key) => self.peek(key)?.is_some(),
            Target::Artifact(artifact) => self.is_whole(artifact, true),
        };
        if !here {
            return Err(StoreError::refused("pinning", &path, "what it should keep is not in the cache"));
        }
        let pin = Pin { name: name.to_owned(), target, created: seconds_since_1970(SystemTime::now()) };
        let doing = "writing a pin";
        let session = self.session()?;
        let mut file = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o644))
            .tempfile_in(session.dir())
            .doing(doing)?;
        let json = serde_json::to_vec(&pin).map_err(std::io::Error::from).doing(doing)?;
        file.write_all(&json).doing(doing)?;
        // Nothing could make up for a lost pin.
        file.as_file().sync_all().doing(doing)?;
        rename_into(file.into_temp_path(), &path).doing(doing)
    }

    /// Removes a pin, and says whether there was one.
    pub fn unpin(&self, name: &str) -> Result<bool> {
        match fs::remove_file(self.pin_path(name)?) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e).doing("removing a pin"),
        }
    }

    /// All pins, by name. A pin that cannot be read is an error, because what it keeps is not known.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        let entries = match fs::read_dir(self.layout().pins()) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).doing("reading the pins"),
        };
        let mut pins = Vec::new();
        for entry in entries {
            let path = entry.doing("reading the pins")?.path();
            let json = fs::read(&path).doing("reading a pin")?;
            let pin: Pin = serde_json::from_slice(&json).map_err(|e| {
                StoreError::corrupt(&path, format!("it is not a pin ({e}); remove or rewrite it"))
            })?;
            pins.push(pin);
        }
        pins.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pins)
    }

    fn pin_path(&self, name: &str) -> Result<PathBuf> {
        let path = self.layout().pins().join(format!("{name}.json"));
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(fine) {
            return Err(StoreError::refused(
                "pinning",
                &path,
                format!("`{name}` is not a name of 1 to 64 letters, digits, `-`, `_` and `.`"),
            ));
        }
        Ok(path)
    }
}
