//! The store itself: opening it, its objects, its lock.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fs_err as fs;

use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::error::{Doing, Result, StoreError};
use crate::index::Index;
use crate::key::Key;
use crate::layout::Layout;
use crate::objects::Objects;
use crate::scratch::Scratch;
use crate::session::Session;
use crate::tree::Tree;
use crate::writer::BlobWriter;

/// How long [`Store::open`] waits for a garbage collection in another process to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// A tree's record longer than this is not one of ours.
const LONGEST_TREE: u64 = 64 << 20;

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

    pub(crate) fn unsettled_keys(&self) -> &Mutex<Vec<Key>> {
        &self.unsettled
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
}

impl Drop for Store {
    fn drop(&mut self) {
        self.index.flush();
    }
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
    let path = layout.lock();
    let file = match fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path) {
        // A cache that this user may only read is good for reading.
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            fs::File::open(&path)
        }
        result => result,
    };
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
