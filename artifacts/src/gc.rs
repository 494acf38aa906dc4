//! Garbage collection: what is pinned or was used lately stays, then the least recently used goes until the rest fits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::actions::USE_GRAIN;
use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::error::{Doing, Result};
use crate::key::Key;
use crate::layout::fan;
use crate::pins::Target;
use crate::session::remove_all;
use crate::store::Store;

/// What to collect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GcOptions {
    /// Bytes that may stay; `None`: any number, only what no action refers to goes.
    pub budget: Option<u64>,
    /// What was used or stored within this time stays, whatever the budget.
    pub grace: Duration,
    /// Only tell what would go.
    pub dry_run: bool,
}

/// What was, or would be, collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct GcReport {
    /// Actions whose results stay.
    pub actions_kept: u64,
    /// Actions that will have to run again.
    pub actions_removed: u64,
    /// Objects that stay.
    pub objects_kept: u64,
    /// Objects removed.
    pub objects_removed: u64,
    /// Bytes of records and objects that stay.
    pub bytes_kept: u64,
    /// Of these, bytes that stay whatever the budget: pinned or recent.
    pub bytes_protected: u64,
    /// Bytes of records and objects removed.
    pub bytes_removed: u64,
}

/// An action with the objects it needs.
struct Candidate {
    key: Key,
    used: SystemTime,
    size: u64,
    needs: Vec<Digest>,
}

struct Object {
    size: u64,
    /// When it was stored, or last linked.
    changed: Duration,
}

/// What stays, and its size with every object counted once.
#[derive(Default)]
struct Kept {
    objects: HashSet<Digest>,
    bytes: u64,
}

impl Kept {
    /// What `needs` would add to the size.
    fn cost(&self, needs: &[Digest], all: &HashMap<Digest, Object>) -> u64 {
        let new: HashSet<_> = needs.iter().filter(|digest| !self.objects.contains(*digest)).collect();
        new.into_iter()
            .filter_map(|digest| all.get(digest))
            .fold(0, |sum, object| sum.saturating_add(object.size))
    }

    fn keep(&mut self, needs: &[Digest], all: &HashMap<Digest, Object>) {
        self.bytes = self.bytes.saturating_add(self.cost(needs, all));
        self.objects.extend(needs);
    }
}

impl Store {
    /// Removes what is not worth keeping. Fails with [`StoreError::Busy`](crate::StoreError::Busy) while any other process or
    /// `Store` has the cache open, because what they use may be referred to by nothing yet. A dry run does not need it alone.
    ///
    /// Records go before objects: whatever interrupts it, no record is left without its objects.
    pub fn gc(&mut self, options: &GcOptions) -> Result<GcReport> {
        if options.dry_run {
            return self.collect(options);
        }
        self.alone("collecting garbage", |store| store.collect(options))
    }

    fn collect(&self, options: &GcOptions) -> Result<GcReport> {
        let now = SystemTime::now();
        let all = self.all_objects()?;
        let mut pinned_keys = HashSet::new();
        let mut kept = Kept::default();
        for pin in self.pins()? {
            match pin.target {
                Target::Action(key) => drop(pinned_keys.insert(key)),
                Target::Artifact(artifact) => {
                    kept.keep(&self.reach([&artifact]).unwrap_or_else(|| vec![*artifact.digest()]), &all);
                }
            }
        }

        let mut report = GcReport::default();
        let mut doomed: Vec<(Key, u64)> = Vec::new();
        let mut candidates = Vec::new();
        for key in self.record_keys()? {
            let Some(found) = self.load(&key)? else {
                let size = std::fs::metadata(self.layout().record(&key)).map_or(0, |meta| meta.len());
                doomed.push((key, size));
                continue;
            };
            match self.reach(found.record.outputs.values()) {
                Some(needs) => {
                    let candidate = Candidate { key, used: found.used, size: found.size, needs };
                    if pinned_keys.contains(&key) || is_recent(now, found.used, options.grace) {
                        kept.bytes = kept.bytes.saturating_add(candidate.size);
                        kept.keep(&candidate.needs, &all);
                        report.actions_kept += 1;
                    } else {
                        candidates.push(candidate);
                    }
                }
                None => doomed.push((key, found.size)),
            }
        }
        // An object that no record names may be on its way into one: a build that was interrupted goes on from there.
        let named: HashSet<Digest> =
            candidates.iter().flat_map(|candidate| candidate.needs.iter().copied()).collect();
        for (digest, object) in &all {
            let changed = SystemTime::UNIX_EPOCH + object.changed;
            if !named.contains(digest) && !options.grace.is_zero() && is_recent(now, changed, options.grace) {
                kept.keep(&[*digest], &all);
            }
        }
        report.bytes_protected = kept.bytes;

        candidates.sort_unstable_by(|a, b| b.used.cmp(&a.used).then(a.key.cmp(&b.key)));
        let mut full = false;
        for candidate in candidates {
            let cost = kept.cost(&candidate.needs, &all).saturating_add(candidate.size);
            // Once something did not fit, nothing older is kept in its place: what stays is what was used last.
            full = full || options.budget.is_some_and(|budget| kept.bytes.saturating_add(cost) > budget);
            if full {
                doomed.push((candidate.key, candidate.size));
            } else {
                kept.bytes = kept.bytes.saturating_add(candidate.size);
                kept.keep(&candidate.needs, &all);
                report.actions_kept += 1;
            }
        }

        report.bytes_kept = kept.bytes;
        for (key, size) in &doomed {
            report.actions_removed += 1;
            report.bytes_removed = report.bytes_removed.saturating_add(*size);
            if !options.dry_run {
                remove_file(&self.layout().record(key))?;
            }
        }
        for (digest, object) in &all {
            if kept.objects.contains(digest) {
                report.objects_kept += 1;
                continue;
            }
            report.objects_removed += 1;
            report.bytes_removed = report.bytes_removed.saturating_add(object.size);
            if !options.dry_run {
                remove_file(&self.path_of(digest))?;
            }
        }
        if !options.dry_run {
            self.empty_quarantine(now, options.grace);
        }
        Ok(report)
    }

    /// Every object by its file name.
    fn all_objects(&self) -> Result<HashMap<Digest, Object>> {
        let object = |path: PathBuf| {
            let digest = path.file_name()?.to_str()?.parse().ok()?;
            let meta = std::fs::symlink_metadata(&path).ok()?;
            let changed =
                Duration::new(meta.ctime().max(0) as u64, u32::try_from(meta.ctime_nsec()).unwrap_or(0));
            Some((digest, Object { size: meta.len(), changed }))
        };
        Ok(fan(&self.layout().cas())?.into_iter().filter_map(object).collect())
    }

    /// The objects that these artifacts consist of; `None` if a directory's listing is gone.
    fn reach<'a>(&self, artifacts: impl IntoIterator<Item = &'a Artifact>) -> Option<Vec<Digest>> {
        let mut needs = Vec::new();
        for artifact in artifacts {
            needs.push(*artifact.digest());
            if artifact.is_tree() {
                needs.extend(self.tree(artifact).ok()?.files().map(|(_, digest, _)| digest));
            }
        }
        Some(needs)
    }

    fn empty_quarantine(&self, now: SystemTime, grace: Duration) {
        for entry in std::fs::read_dir(self.layout().quarantine()).into_iter().flatten().flatten() {
            let changed = entry.metadata().map_or(0, |meta| meta.ctime().max(0) as u64);
            if !is_recent(now, SystemTime::UNIX_EPOCH + Duration::from_secs(changed), grace) {
                remove_all(&entry.path());
            }
        }
    }
}

/// Uses are noted to within [`USE_GRAIN`]; a grace of zero protects nothing.
fn is_recent(now: SystemTime, used: SystemTime, grace: Duration) -> bool {
    let age = now.duration_since(used).unwrap_or_default();
    !grace.is_zero() && age <= grace.saturating_add(USE_GRAIN)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs_err::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).doing("collecting garbage"),
        _ => Ok(()),
    }
}

/// What the cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StoreStat {
    /// Action records.
    pub actions: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes of objects.
    pub bytes: u64,
    /// Pins.
    pub pins: u64,
    /// Bytes of files that were set aside as damaged.
    pub quarantine_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes that running builds are writing.
    pub scratch_bytes: u64,
}

impl Store {
    /// What the cache holds, counted now.
    pub fn stat(&self) -> Result<StoreStat> {
        let objects = self.all_objects()?;
        Ok(StoreStat {
            actions: self.record_keys()?.len() as u64,
            objects: objects.len() as u64,
            bytes: objects.values().fold(0, |sum, object| sum.saturating_add(object.size)),
            pins: self.pins()?.len() as u64,
            quarantine_bytes: size_below(&self.layout().quarantine()),
            index_bytes: size_below(&self.layout().index()),
            scratch_bytes: size_below(&self.layout().tmp()),
        })
    }

    /// How many actions of each stage are recorded, and how long they took together, in seconds.
    pub fn actions_by_stage(&self) -> Result<BTreeMap<String, (u64, f64)>> {
        let mut stages = BTreeMap::<_, (u64, f64)>::new();
        for key in self.record_keys()? {
            let Some(found) = self.load(&key)? else { continue };
            let (count, seconds) = stages.entry(found.record.stage).or_default();
            *count += 1;
            *seconds += found.record.seconds;
        }
        Ok(stages)
    }
}

fn size_below(dir: &Path) -> u64 {
    let Ok(meta) = std::fs::symlink_metadata(dir) else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.fold(0, |sum, entry| sum.saturating_add(size_below(&entry.path())))
}
