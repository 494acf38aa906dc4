//! The store itself: opening, objects, action records.

use std::fs::{File, FileTimes, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::boot;
use crate::digest::Digest;
use crate::error::{Doing, Result, StoreError};
use crate::index::Index;
use crate::key::Key;
use crate::layout::{Layout, fan};
use crate::objects::{Objects, rename_into};
use crate::record::{ActionRecord, RECORD_SCHEMA};
use crate::scratch::Scratch;
use crate::session::Session;
use crate::tree::Tree;
use crate::writer::BlobWriter;

/// How long [`Store::open`] waits for a garbage collection in another process to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// A record's time of last use is renewed when it is older than this, so that a build with nothing to do writes nothing.
pub(crate) const USE_GRAIN: Duration = Duration::from_mins(1);
/// A record longer than this is not one of ours.
const LONGEST_RECORD: u64 = 16 << 20;
/// A tree's record longer than this is not one of ours.
const LONGEST_TREE: u64 = 64 << 20;

const SETTLED: u32 = 0o444;
const UNSETTLED: u32 = 0o644;

/// The artifact store in a cache directory.
///
/// Any number of processes and threads may use one at the same time; only garbage collection needs it alone.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    objects: Objects,
    session: Mutex<Option<Arc<Session>>>,
    /// Shared while the store is open; `None` only while a collection holds the lock itself.
    lock: Option<File>,
    index: Index,
    /// Records in use that are not known to be on the disk.
    unsettled: Mutex<Vec<Key>>,
}

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

impl Store {
    /// Opens the cache in `dir`, creating it if need be, and removes what dead processes left there.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_within(dir, PATIENCE)
    }

    /// As [`open`](Self::open), waiting at most `patience` for a garbage collection to end.
    pub fn open_within(dir: impl AsRef<Path>, patience: Duration) -> Result<Self> {
        let layout = Layout::prepare(dir.as_ref())?;
        let lock = lock_shared(&layout, patience)?;
        Session::sweep(&layout.tmp());
        Ok(Self {
            objects: Objects::new(layout.clone()),
            index: Index::new(&layout),
            layout,
            session: Mutex::default(),
            lock: Some(lock),
            unsettled: Mutex::default(),
        })
    }

    /// The cache directory, absolute.
    pub fn dir(&self) -> &Path {
        self.layout.root()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// This process's temporary directory, created when it is first needed: a build with nothing to do writes nothing.
    pub(crate) fn session(&self) -> Result<Arc<Session>> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = session.as_ref() {
            return Ok(session.clone());
        }
        let started = Arc::new(Session::start(&self.layout.tmp())?);
        *session = Some(started.clone());
        Ok(started)
    }

    /// A directory for a stage's results. `label` helps people who look into the cache while it runs.
    pub fn scratch(&self, label: &str) -> Result<Scratch> {
        Scratch::new(self.session()?, label)
    }

    /// A writer of one object that digests while it writes.
    pub fn blob_writer(&self) -> Result<BlobWriter<'_>> {
        BlobWriter::new(self)
    }

    /// Stores these bytes as a file.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Artifact> {
        let (digest, size) = (Digest::of_bytes(bytes), bytes.len() as u64);
        if !self.objects.prove(&digest, size) {
            let mut writer = self.blob_writer()?;
            writer.write_all(bytes).doing("writing an object")?;
            return writer.finish();
        }
        Ok(Artifact::Blob { digest, size })
    }

    /// Where the object of this digest is, if it is here: read-only, to be read or mapped, never written.
    pub fn path_of(&self, digest: &Digest) -> PathBuf {
        self.objects.path_of(digest)
    }

    /// The bytes of a stored object, compared with its digest.
    pub fn read(&self, artifact: &Artifact) -> Result<Vec<u8>> {
        let (digest, size) = (artifact.digest(), artifact.size());
        let path = self.path_of(digest);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::missing(path, digest)),
            Err(e) => return Err(e).doing("reading an object"),
        };
        // The size is checked before memory is taken for it.
        if file.metadata().doing("reading an object")?.len() != size {
            return Err(StoreError::missing(path, digest));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(size).read_to_end(&mut bytes).doing("reading an object")?;
        if Digest::of_bytes(&bytes) != *digest {
            return Err(StoreError::corrupt(path, "its content does not match its name"));
        }
        Ok(bytes)
    }

    /// The listing of a stored directory.
    pub fn tree(&self, artifact: &Artifact) -> Result<Tree> {
        let path = || self.path_of(artifact.digest());
        if !artifact.is_tree() || artifact.size() > LONGEST_TREE {
            return Err(StoreError::corrupt(path(), "it is not a directory's listing"));
        }
        Tree::from_canonical(&self.read(artifact)?).map_err(|e| StoreError::corrupt(path(), e.to_string()))
    }

    /// The record of an earlier run of this action, if all that it gave is still here. Counts as a use, and as the action's
    /// [last run](Self::last_run).
    ///
    /// Anything less than a whole record with all its objects is a miss, never an error: running the action again puts it
    /// right. An error means that the cache cannot be read at all.
    pub fn lookup(&self, key: &Key) -> Result<Option<ActionRecord>> {
        let Some(found) = self.find(key)? else { return Ok(None) };
        if !found.is_trusted() {
            // Proven by hashing: write it down, so that the next process need not.
            self.record(key, &found.record)?;
        } else if !found.settled {
            self.unsettled().push(*key);
        }
        if found.used + USE_GRAIN < SystemTime::now() {
            self.touch(key);
        }
        self.index.set_run(&found.record.stage, &found.record.subject, *key);
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
            if trusted { self.objects.has(digest, size) } else { self.objects.prove(digest, size) }
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
        let path = self.layout.record(key);
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
        rename_into(file.into_temp_path(), &self.layout.record(key)).doing(doing)?;
        self.unsettled().push(*key);
        self.index.set_run(&record.stage, &record.subject, *key);
        Ok(())
    }

    fn unsettled(&self) -> MutexGuard<'_, Vec<Key>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
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
            let path = self.layout.record(&key);
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
            sync(self.layout.record(key))?;
        }
        Ok(())
    }

    /// Notes that the action was used now, for garbage collection. Best effort.
    pub fn touch(&self, key: &Key) {
        if let Ok(file) = File::open(self.layout.record(key)) {
            let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        }
    }

    /// The key and manifest that this action had when it last ran or was found in the cache; `None` if it never did, or if
    /// its record was collected.
    pub fn last_run(&self, stage: &str, subject: &str) -> Result<Option<LastRun>> {
        let key = self.index.run(stage, subject, || {
            let keys = self.record_keys().unwrap_or_default();
            let mut records: Vec<_> = keys.iter().filter_map(|key| self.load(key).ok()?).collect();
            records.sort_by_key(|found| found.record.created);
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
        Ok(fan(&self.layout.ac())?.into_iter().filter_map(key).collect())
    }

    /// When the action was last used, to within a minute: the modification time of its record.
    pub fn last_use(&self, key: &Key) -> Option<SystemTime> {
        std::fs::metadata(self.layout.record(key)).and_then(|meta| meta.modified()).ok()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.index.flush();
    }
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
    /// Runs `work` while no other process has the cache open.
    pub(crate) fn alone<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        // A lock cannot be exchanged for a stronger one: let go, and take the other.
        drop(self.lock.take());
        let file = lock_file(&self.layout)?;
        let result = match file.try_lock() {
            Ok(()) => work(self),
            Err(TryLockError::WouldBlock) => Err(StoreError::Busy { doing, dir: self.dir().to_owned() }),
            Err(TryLockError::Error(e)) => Err(e).doing("locking the cache"),
        };
        drop(file);
        self.lock = Some(lock_shared(&self.layout, PATIENCE)?);
        // In between another process may have collected what this one had seen.
        self.objects.doubt();
        result
    }
}

fn lock_file(layout: &Layout) -> Result<File> {
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(layout.lock());
    Ok(file.doing("opening the cache's lock")?.into_file())
}

fn lock_shared(layout: &Layout, patience: Duration) -> Result<File> {
    let file = lock_file(layout)?;
    let started = Instant::now();
    loop {
        match file.try_lock_shared() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if started.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Busy { doing: "opening the cache", dir: layout.root().to_owned() });
            }
            Err(TryLockError::Error(e)) => return Err(e).doing("locking the cache"),
        }
    }
}
