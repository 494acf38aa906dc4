//! What makes the store fast and can be lost at any time: input digests, and which key each action had last.
//!
//! It lives in memory while the store is open. The database is opened twice, briefly: when something is first asked for, and at
//! the end if something changed. Whatever is wrong with it, the index starts empty, and the last keys are read from the
//! records, which are the truth.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::database::{Database, Pairs};
use crate::digest::Digest;
use crate::key::Key;
use crate::layout::Layout;
use crate::stat_cache::Entry;

/// Beyond this many input files, those that are gone are forgotten.
const MANY: usize = 4096;

const STATS: u8 = b's';
const RUNS: u8 = b'r';

/// An action whatever its key: its stage and its subject.
type Action = (String, String);

#[derive(Debug)]
pub(crate) struct Index {
    database: Database,
    state: Mutex<Option<State>>,
}

#[derive(Debug, Default)]
struct State {
    stats: HashMap<PathBuf, Entry>,
    runs: HashMap<Action, Key>,
    changed_stats: HashSet<PathBuf>,
    changed_runs: HashSet<Action>,
    /// The runs came from the database; otherwise they have to be read from the records when they are asked for.
    complete: bool,
}

impl Index {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { database: Database::new(layout), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_none() {
            *state = Some(self.database.load().map(State::from_pairs).unwrap_or_default());
        }
        state
    }

    pub(crate) fn stat(&self, path: &Path) -> Option<Entry> {
        self.state().as_ref()?.stats.get(path).cloned()
    }

    pub(crate) fn set_stat(&self, path: PathBuf, entry: Entry) {
        if let Some(state) = self.state().as_mut() {
            state.stats.insert(path.clone(), entry);
            state.changed_stats.insert(path);
        }
    }

    /// The key that the action had last. `scan` reads all records, oldest first, if the database had nothing to say.
    pub(crate) fn run(
        &self,
        stage: &str,
        subject: &str,
        scan: impl FnOnce() -> Vec<(String, String, Key)>,
    ) -> Option<Key> {
        let mut state = self.state();
        let state = state.as_mut()?;
        if !state.complete {
            for (stage, subject, key) in scan() {
                // What this process noted itself is later than any record.
                let action = (stage, subject);
                if !state.changed_runs.contains(&action) {
                    state.runs.insert(action, key);
                }
            }
            state.changed_runs.extend(state.runs.keys().cloned());
            state.complete = true;
        }
        state.runs.get(&(stage.to_owned(), subject.to_owned())).copied()
    }

    pub(crate) fn set_run(&self, stage: &str, subject: &str, key: Key) {
        if let Some(state) = self.state().as_mut() {
            let action = (stage.to_owned(), subject.to_owned());
            if state.runs.insert(action.clone(), key) != Some(key) {
                state.changed_runs.insert(action);
            }
        }
    }

    /// Writes what changed. Best effort: what cannot be written is worked out again next time.
    pub(crate) fn flush(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = state.as_mut() else { return };
        if state.stats.len() > MANY {
            let gone: Vec<PathBuf> = state.stats.keys().filter(|path| !path.exists()).cloned().collect();
            for path in gone {
                state.stats.remove(&path);
                state.changed_stats.insert(path);
            }
        }
        let stats = state.changed_stats.drain().map(|path| {
            let name = name(STATS, path.as_os_str().as_bytes());
            let value = state.stats.get(&path).and_then(|entry| seal(&name, entry));
            (name, value)
        });
        let runs = state.changed_runs.drain().filter_map(|action| {
            let name = name(RUNS, &serde_json::to_vec(&action).ok()?);
            let value = state.runs.get(&action).and_then(|key| seal(&name, key));
            Some((name, value))
        });
        let changes: Vec<_> = stats.chain(runs).collect();
        if !changes.is_empty() {
            self.database.store(changes, state.complete);
        }
    }
}

impl State {
    fn from_pairs(pairs: Pairs) -> Self {
        let mut state = Self { complete: pairs.complete, ..Self::default() };
        for (name, value) in pairs.pairs {
            match name.split_first() {
                Some((&STATS, path)) => {
                    let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
                    state.stats.extend(unseal(&name, &value).map(|entry| (path, entry)));
                }
                Some((&RUNS, action)) => {
                    let action = serde_json::from_slice::<Action>(action).ok();
                    state.runs.extend(action.zip(unseal(&name, &value)));
                }
                _ => {}
            }
        }
        state
    }
}

fn name(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut name = vec![kind];
    name.extend_from_slice(rest);
    name
}

/// Bytes of a value's check.
const CHECK: usize = 8;

/// A wrong digest here would be a wrong build. So each value carries a check of its own, over its name too.
fn check(name: &[u8], json: &[u8]) -> [u8; CHECK] {
    let mut both = (name.len() as u64).to_le_bytes().to_vec();
    both.extend_from_slice(name);
    both.extend_from_slice(json);
    let mut check = [0; CHECK];
    check.iter_mut().zip(Digest::of_bytes(&both).as_bytes()).for_each(|(to, from)| *to = *from);
    check
}

fn seal(name: &[u8], value: &impl Serialize) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(value).ok()?;
    let mut sealed = check(name, &json).to_vec();
    sealed.extend_from_slice(&json);
    Some(sealed)
}

fn unseal<T: DeserializeOwned>(name: &[u8], sealed: &[u8]) -> Option<T> {
    let (found, json) = sealed.split_at_checked(CHECK)?;
    if found != check(name, json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_any_bit_changed_is_ignored() {
        let name = name(RUNS, b"[\"extract\",\"layer 0\"]");
        let key = Key::of(&"x".into());
        let sealed = seal(&name, &key).unwrap();
        assert_eq!(unseal::<Key>(&name, &sealed), Some(key));
        assert_eq!(unseal::<Key>(b"other", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal::<Key>(&name, &damaged), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(unseal::<Key>(&name, &sealed[..length]), None, "{length} bytes");
        }
    }
}
