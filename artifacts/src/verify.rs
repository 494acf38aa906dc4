//! Checking every byte of the cache.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::digest::Digest;
use crate::error::Result;
use crate::hash::hash_file;
use crate::key::Key;
use crate::layout::fan;
use crate::objects::{is_untouched, seal};
use crate::store::Store;

/// What to do with damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Report it.
    No,
    /// Move damaged files to `quarantine/`, so that their actions run again.
    SetAside,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Damage {
    /// An object whose content is not what its name says.
    Content {
        /// What its content is.
        found: Digest,
    },
    /// An object that was opened for writing, or whose time or mode changed, but whose content is right. Not damage in itself.
    Touched,
    /// A file whose name or place is none of an object or record.
    Stray,
    /// A file that cannot be read.
    Unreadable {
        /// The system's words.
        why: String,
    },
    /// A record that is not whole, or not the record of its key.
    Record,
    /// A record some of whose objects are not here.
    Incomplete,
}

/// A file with something wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub damage: Damage,
    /// Whether it was put right or set aside.
    pub repaired: bool,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Objects hashed.
    pub objects: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Records read.
    pub actions: u64,
    /// What is wrong, by path.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Whether nothing was found that could make a build wrong or slow.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.damage == Damage::Touched)
    }
}

impl Store {
    /// Hashes every object and reads every record. Builds may go on meanwhile.
    pub fn verify(&self, repair: Repair) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let mut bad = HashSet::new();
        for path in fan(&self.layout().cas())? {
            if let Err(damage) = self.verify_object(&path, &mut report) {
                bad.extend(name_of::<Digest>(&path, ""));
                self.found(&mut report, path, damage, repair);
            }
        }
        for path in fan(&self.layout().ac())? {
            report.actions += 1;
            if let Err(damage) = self.verify_record(&path, &bad)? {
                self.found(&mut report, path, damage, repair);
            }
        }
        report.findings.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(report)
    }

    fn verify_object(&self, path: &Path, report: &mut VerifyReport) -> Result<(), Damage> {
        let unreadable = |e: std::io::Error| Damage::Unreadable { why: e.to_string() };
        let digest =
            name_of::<Digest>(path, "").filter(|digest| self.path_of(digest) == path).ok_or(Damage::Stray)?;
        if !std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()) {
            return Err(Damage::Stray);
        }
        let file = File::open(path).map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        let (found, size) = hash_file(&file).map_err(unreadable)?;
        report.objects += 1;
        report.bytes = report.bytes.saturating_add(size);
        if found != digest {
            return Err(Damage::Content { found });
        }
        if !is_untouched(&meta) || meta.mode() & 0o222 != 0 {
            let repaired = seal(&file).is_ok();
            report.findings.push(Finding { path: path.to_owned(), damage: Damage::Touched, repaired });
        }
        Ok(())
    }

    fn verify_record(&self, path: &Path, bad: &HashSet<Digest>) -> Result<Result<(), Damage>> {
        let Some(key) = name_of::<Key>(path, ".json").filter(|key| self.layout().record(key) == path) else {
            return Ok(Err(Damage::Stray));
        };
        let Some(found) = self.load(&key)? else { return Ok(Err(Damage::Record)) };
        let here = |digest: &Digest, size: u64| !bad.contains(digest) && self.objects().has(digest, size);
        let whole = found.record.outputs.values().all(|artifact| {
            here(artifact.digest(), artifact.size())
                && (!artifact.is_tree()
                    || self
                        .tree(artifact)
                        .is_ok_and(|tree| tree.files().all(|(_, digest, size)| here(&digest, size))))
        });
        Ok(if whole { Ok(()) } else { Err(Damage::Incomplete) })
    }

    fn found(&self, report: &mut VerifyReport, path: PathBuf, damage: Damage, repair: Repair) {
        let repaired = repair == Repair::SetAside
            && std::fs::symlink_metadata(&path).is_ok_and(|seen| self.objects().set_aside(&path, &seen));
        report.findings.push(Finding { path, damage, repaired });
    }
}

fn name_of<T: FromStr>(path: &Path, suffix: &str) -> Option<T> {
    path.file_name()?.to_str()?.strip_suffix(suffix)?.parse().ok()
}
