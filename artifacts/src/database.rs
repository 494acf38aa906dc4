//! The sled database below the index, kept at arm's length.
//!
//! sled 0.34 cannot be opened by two processes, stays unopenable after some damage and panics after other. So it is opened under
//! a lock of ours, in a thread of its own that may panic or hang without harm, and moved away when it does not work.

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::{Once, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fs_err as fs;

use crate::layout::Layout;

/// How long to wait for another process, which has it open for milliseconds.
const PATIENCE: Duration = Duration::from_millis(200);
/// After this long, the database is taken to hang.
const LONGEST: Duration = Duration::from_secs(5);
/// The version of what is in it; another one is emptied.
const SCHEMA: &[u8] = b"1";
const SCHEMA_NAME: &[u8] = b"schema";
/// Present when every run was in the index at some time, so that the records need not be read.
const COMPLETE_NAME: &[u8] = b"complete";

/// What is in the database.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pub(crate) pairs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) complete: bool,
}

#[derive(Debug)]
pub(crate) struct Database {
    layout: Layout,
}

enum Failure {
    /// Another process has it.
    Held,
    /// It does not work.
    Broken,
}

impl Database {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone() }
    }

    /// Everything in it; `None` if it is not there or cannot be had.
    pub(crate) fn load(&self) -> Option<Pairs> {
        if !self.path().exists() {
            return None;
        }
        self.with(|db| {
            let mut found = Pairs { complete: db.contains_key(COMPLETE_NAME)?, ..Pairs::default() };
            for pair in db.iter() {
                let (name, value) = pair?;
                found.pairs.push((name.to_vec(), value.to_vec()));
            }
            Ok(found)
        })
    }

    /// Writes (`Some`) and removes (`None`) these. Tried twice: a broken database is moved away and started afresh.
    pub(crate) fn store(&self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>, complete: bool) {
        let changes = std::sync::Arc::new(changes);
        for _ in 0..2 {
            let changes = changes.clone();
            let done = self.with(move |db| {
                for (name, value) in &*changes {
                    match value {
                        Some(value) => db.insert(name.as_slice(), value.as_slice())?,
                        None => db.remove(name)?,
                    };
                }
                if complete {
                    db.insert(COMPLETE_NAME, b"")?;
                }
                Ok(())
            });
            if done.is_some() {
                return;
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.layout.index()
    }

    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&sled::Db) -> sled::Result<T> + Send + 'static,
    ) -> Option<T> {
        let lock = self.lock()?;
        let path = self.path();
        let result = guarded(move || {
            // Held by the thread, so that nobody else opens a database that hangs here.
            let _lock = lock;
            let db = open(path)?;
            work(&db).map_err(|_| Failure::Broken)
        });
        match result {
            Ok(value) => Some(value),
            Err(Failure::Held) => None,
            Err(Failure::Broken) => {
                self.set_aside();
                None
            }
        }
    }

    fn lock(&self) -> Option<File> {
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.layout.root().join("index.lock"))
            .ok()?
            .into_file();
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Some(file),
                Err(TryLockError::WouldBlock) if started.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(_) => return None,
            }
        }
    }

    /// Keeps the broken database for whoever wants to look; garbage collection removes it.
    fn set_aside(&self) {
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let to = self.layout.quarantine().join(format!("index.{stamp}"));
        let moved = fs::create_dir_all(self.layout.quarantine()).and_then(|()| fs::rename(self.path(), to));
        if moved.is_err() {
            crate::session::remove_all(&self.path());
        }
    }
}

fn open(path: PathBuf) -> Result<sled::Db, Failure> {
    let db = sled::Config::new()
        .path(path)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(8 << 20)
        // No thread that writes in the background: it is closed in a moment.
        .flush_every_ms(None)
        .open()
        .map_err(|e| match e {
            // sled has no kind for this.
            sled::Error::Io(e) if e.to_string().contains("could not acquire lock") => Failure::Held,
            _ => Failure::Broken,
        })?;
    let broken = |_| Failure::Broken;
    if db.get(SCHEMA_NAME).map_err(broken)?.as_deref() != Some(SCHEMA) {
        db.clear().map_err(broken)?;
        db.insert(SCHEMA_NAME, SCHEMA).map_err(broken)?;
    }
    Ok(db)
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` in a thread whose panics are silent failures, and gives up on it after [`LONGEST`].
fn guarded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    static HOOK: Once = Once::new();
    // A store that is dropped while its thread panics has better things to do, and the hook cannot be set then.
    if std::thread::panicking() {
        return Err(Failure::Held);
    }
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    let (send, receive) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("anepipe-index".to_owned()).spawn(move || {
        QUIET.set(true);
        let _ = send.send(work());
    });
    if thread.is_err() {
        return Err(Failure::Held);
    }
    // A thread that panicked drops its end.
    receive.recv_timeout(LONGEST).unwrap_or(Err(Failure::Broken))
}
