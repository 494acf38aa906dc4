//! Action records: written when an action ran, found when it need not run again.
//!
//! A record may only count if its objects are whole, and a loss of power can leave a file of the right size with the wrong
//! bytes. Flushing each file on its own costs milliseconds a file, so the store does not. Instead:
//!
//! - A record names the boot in which it was written, and keeps its write permission until it is known to be on the disk.
//! - While that boot lasts, what was written is what is read, flushed or not: the record is trusted.
//! - [`Store::settle`] flushes everything at once at the end of a build, and only then takes the write permission away.
//! - A record that still has it after another boot is trusted only once its objects have been hashed, and so is an object
//!   that is about to be stored and seems to be there already.

use std::fs::{File, FileTimes, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::boot;
use crate::digest::Digest;
use crate::error::{Doing, Result, StoreError};
use crate::key::Key;
use crate::layout::fan;
use crate::objects::rename_into;
use crate::record::{ActionRecord, RECORD_SCHEMA};
use crate::store::Store;

/// A record's time of last use is renewed when it is older than this, so that a build with nothing to do writes nothing.
pub(crate) const USE_GRAIN: Duration = Duration::from_mins(1);
/// A record longer than this is not one of ours.
const LONGEST_RECORD: u64 = 16 << 20;

const SETTLED: u32 = 0o444;
const UNSETTLED: u32 = 0o644;

/// What an action had when it last ran or was found in the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct LastRun {
    /// Its key.
    pub key: Key,
    /// Its key manifest, to be compared by [`explain`](crate::explain).
    pub key_manifest: serde_json::Value,
}

/// A record as it is kept. `boot` tells in which run of the system it was written.
#[derive(Serialize, Deserialize)]
struct Envelope<R> {
    schema: u32,
    boot: Option<String>,
    action: R,
}

impl Loaded {
    /// Whether its objects are whole if they look whole: on the disk for good, or written since the machine started.
    fn is_trusted(&self) -> bool {
        self.settled || self.boot.is_some() && self.boot.as_deref() == boot::id()
    }
}

/// A record with what its file tells.
pub(crate) struct Loaded {
    pub(crate) record: ActionRecord,
    pub(crate) boot: Option<String>,
    pub(crate) settled: bool,
    pub(crate) used: SystemTime,
    pub(crate) size: u64,
}

impl Store {
    /// The record of an earlier run of this action, if all that it gave is still here. Counts as a use, and as the action's
    /// [last run](Self::last_run).
    ///
    /// Anything less than a whole record with all its objects is a miss, never an error: running the action again puts it
    /// right. An error means that the cache cannot be read at all.
    pub fn lookup(&self, key: &Key) -> Result<Option<ActionRecord>> {
        let Some(found) = self.find(key)? else { return Ok(None) };
        if !found.is_trusted() {
            // Proven by hashing: write it down, so that the next process need not.
            // Not in a cache that cannot be written: there it is hashed each time.
            let _ = self.record(key, &found.record);
        } else if !found.settled {
            self.unsettled().push(*key);
        }
        if found.used + USE_GRAIN < SystemTime::now() {
            self.touch(key);
        }
        self.index().set_run(&found.record.stage, &found.record.subject, *key);
        Ok(Some(found.record))
    }

    /// As [`lookup`](Self::lookup), without a trace: for a dry run.
    pub fn peek(&self, key: &Key) -> Result<Option<ActionRecord>> {
        Ok(self.find(key)?.map(|found| found.record))
    }

    fn find(&self, key: &Key) -> Result<Option<Loaded>> {
        Ok(self.load(key)?.filter(|found| {
            let trusted = found.is_trusted();
            found.record.outputs.values().all(|artifact| self.is_whole(artifact, trusted))
        }))
    }

    /// Whether the artifact and all that it lists is here; by content if the disk is not to be trusted.
    pub(crate) fn is_whole(&self, artifact: &Artifact, trusted: bool) -> bool {
        let here = |digest: &Digest, size: u64| {
            if trusted { self.objects().has(digest, size) } else { self.objects().prove(digest, size) }
        };
        match artifact {
            Artifact::Blob { digest, size } => here(digest, *size),
            Artifact::Tree { digest, size } => {
                here(digest, *size)
                    && self
                        .tree(artifact)
                        .is_ok_and(|tree| tree.files().all(|(_, digest, size)| here(&digest, size)))
            }
        }
    }

    /// The record as it is on the disk, without a look at its objects.
    pub(crate) fn load(&self, key: &Key) -> Result<Option<Loaded>> {
        let path = self.layout().record(key);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).doing(format!("reading {}", path.display())),
        };
        let doing = || format!("reading {}", path.display());
        let meta = file.metadata().doing(doing())?;
        if !meta.is_file() || meta.len() > LONGEST_RECORD {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len() + 1).unwrap_or_default());
        file.read_to_end(&mut bytes).doing(doing())?;
        let Ok(envelope) = serde_json::from_slice::<Envelope<ActionRecord>>(&bytes) else { return Ok(None) };
        let record = envelope.action;
        if envelope.schema != RECORD_SCHEMA || record.schema != RECORD_SCHEMA || record.key() != *key {
            return Ok(None);
        }
        Ok(Some(Loaded {
            settled: meta.mode() & 0o222 == 0,
            used: meta.modified().unwrap_or(UNIX_EPOCH),
            size: meta.len(),
            boot: envelope.boot,
            record,
        }))
    }

    /// Publishes the record of an action whose outputs are stored.
    pub fn record(&self, key: &Key, record: &ActionRecord) -> Result<()> {
        let bad = |why: String| StoreError::BadRecord {
            stage: record.stage.clone(),
            subject: record.subject.clone(),
            why,
        };
        if record.key() != *key {
            return Err(bad(format!("its manifest has the key {}, not {key}", record.key())));
        }
        if !record.seconds.is_finite() {
            return Err(bad("its duration is not a number".to_owned()));
        }
        if let Some((name, _)) = record.outputs.iter().find(|(_, artifact)| !self.is_whole(artifact, true)) {
            return Err(bad(format!("its output `{name}` is not in the store")));
        }
        let envelope =
            Envelope { schema: RECORD_SCHEMA, boot: boot::id().map(str::to_owned), action: record };
        let bytes = serde_json::to_vec(&envelope).map_err(|e| bad(e.to_string()))?;
        let doing = "writing an action record";
        let session = self.session()?;
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(UNSETTLED))
            .tempfile_in(session.dir())
            .doing(doing)?;
        file.write_all(&bytes).doing(doing)?;
        rename_into(file.into_temp_path(), &self.layout().record(key)).doing(doing)?;
        self.unsettled().push(*key);
        self.index().set_run(&record.stage, &record.subject, *key);
        Ok(())
    }

    fn unsettled(&self) -> MutexGuard<'_, Vec<Key>> {
        self.unsettled_keys().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flushes what was recorded to the disk, so that it is trusted after a loss of power without being hashed again.
    ///
    /// To be called once, at the end of a build. Without it nothing is lost or wrong; after the next boot, the first lookup
    /// of each record hashes its objects once.
    pub fn settle(&self) -> Result<()> {
        let mut keys = std::mem::take(&mut *self.unsettled());
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return Ok(());
        }
        self.flush_to_disk(&keys)?;
        for key in keys {
            // Only now may the write permission go: it is the mark of a record that may not be on the disk.
            let path = self.layout().record(&key);
            match std::fs::set_permissions(&path, Permissions::from_mode(SETTLED)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).doing("settling the cache"),
                _ => {}
            }
        }
        Ok(())
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn flush_to_disk(&self, _: &[Key]) -> Result<()> {
        let root = File::open(self.dir()).doing("settling the cache")?;
        rustix::fs::syncfs(&root).map_err(io::Error::from).doing("settling the cache")
    }

    /// Without `syncfs`, file by file.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn flush_to_disk(&self, keys: &[Key]) -> Result<()> {
        let sync =
            |path: PathBuf| File::open(path).and_then(|file| file.sync_all()).doing("settling the cache");
        for key in keys {
            let Some(found) = self.load(key)? else { continue };
            for artifact in found.record.outputs.values() {
                sync(self.path_of(artifact.digest()))?;
                if artifact.is_tree() {
                    self.tree(artifact)?
                        .files()
                        .try_for_each(|(_, digest, _)| sync(self.path_of(&digest)))?;
                }
            }
            sync(self.layout().record(key))?;
        }
        Ok(())
    }

    /// Notes that the action was used now, for garbage collection. Best effort.
    pub fn touch(&self, key: &Key) {
        if let Ok(file) = File::open(self.layout().record(key)) {
            let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        }
    }

    /// The key and manifest that this action had when it last ran or was found in the cache; `None` if it never did, or if
    /// its record was collected.
    pub fn last_run(&self, stage: &str, subject: &str) -> Result<Option<LastRun>> {
        let key = self.index().run(stage, subject, || {
            let keys = self.record_keys().unwrap_or_default();
            let mut records: Vec<_> = keys.iter().filter_map(|key| self.load(key).ok()?).collect();
            records.sort_by_key(|found| found.used);
            records
                .into_iter()
                .map(|found| {
                    let key = found.record.key();
                    (found.record.stage, found.record.subject, key)
                })
                .collect()
        });
        let Some(key) = key else { return Ok(None) };
        Ok(self.load(&key)?.map(|found| LastRun { key, key_manifest: found.record.key_manifest }))
    }

    /// The keys of all records, in no order.
    pub(crate) fn record_keys(&self) -> Result<Vec<Key>> {
        let key = |path: PathBuf| path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok();
        Ok(fan(&self.layout().ac())?.into_iter().filter_map(key).collect())
    }

    /// When the action was last used, to within a minute: the modification time of its record.
    pub fn last_use(&self, key: &Key) -> Option<SystemTime> {
        std::fs::metadata(self.layout().record(key)).and_then(|meta| meta.modified()).ok()
    }
}
