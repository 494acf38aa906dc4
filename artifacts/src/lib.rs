//! The artifact store: what was built once is not built again.
//!
//! ```text
//! <cache>/cas/<aa>/<digest>     objects: read-only files named by their BLAKE3 digest
//! <cache>/ac/<aa>/<key>.json    action records: what an action was, and which objects it gave
//! <cache>/pins/<name>.json      what garbage collection must keep
//! <cache>/index/                stat cache and last keys (sled); may be deleted at any time
//! <cache>/tmp/                  where running processes write before they rename
//! <cache>/quarantine/           damaged files, until they are collected
//! ```
//!
//! An action's [`Key`] is the digest of everything its result depends on ([`KeyManifest`]). A build asks
//! [`Store::lookup`] for each key; for a miss it runs the action in a [`Scratch`], stores what came out
//! ([`Store::ingest`], [`Store::blob_writer`], [`Store::put_tree`]), and then writes the [`ActionRecord`]
//! ([`Store::record`]). At the end it calls [`Store::settle`] once.
//!
//! ```
//! use std::time::Duration;
//! use anepipe_artifacts::{ActionRecord, Digest, KeyManifest, Store};
//!
//! # let dir = tempfile::tempdir()?;
//! let store = Store::open(dir.path().join("cache"))?;
//! let manifest = KeyManifest::new("shout", 1).input("text", Digest::of_bytes(b"hello"));
//! if store.lookup(&manifest.key())?.is_none() {
//!     let shouted = store.put_bytes(b"HELLO")?;
//!     let outputs = [("text".to_owned(), shouted)].into();
//!     store.record(&manifest.key(), &ActionRecord::new(&manifest, "hello", outputs, Duration::ZERO))?;
//! }
//! store.settle()?;
//! let found = store.lookup(&manifest.key())?.expect("it was just recorded");
//! assert_eq!(store.read(&found.outputs["text"])?, b"HELLO");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - **Whole or absent.** Everything is written to a temporary file on the same file system and renamed, objects before the
//!   record that names them. A process may be killed at any moment.
//! - **A damaged entry is a miss.** A lookup compares each object's size and modification time, which is the same for
//!   all objects; what was emptied, cut or edited through a hard link is found by that, and repaired by running the action again.
//!   What a look cannot show, [`Store::verify`] finds by hashing.
//! - **A loss of power costs time, not truth.** What was not flushed is hashed before it is believed; how this is known
//!   without a flush per file is told in the source of `actions.rs`.
//! - **No waiting.** Any number of processes build at the same time. [`Store::gc`] alone needs the cache for itself, and says
//!   [`StoreError::Busy`] rather than wait.

mod actions;
mod artifact;
mod boot;
pub mod canonical;
mod database;
mod digest;
mod error;
mod explain;
mod gc;
mod hash;
mod index;
mod ingest;
mod key;
mod layout;
mod materialize;
mod objects;
mod pins;
mod record;
mod scratch;
mod session;
mod stat_cache;
mod store;
mod tree;
mod verify;
mod writer;

pub use actions::LastRun;
pub use artifact::Artifact;
pub use digest::{Digest, HashingWriter, NotADigest};
pub use error::{Result, StoreError};
pub use explain::{Change, Reason, explain};
pub use gc::{GcOptions, GcReport, StoreStat};
pub use key::{KEY_SCHEMA, Key, KeyManifest};
pub use layout::{STORE_SCHEMA, default_dir};
pub use materialize::How;
pub use pins::{Pin, Target};
pub use record::{ActionRecord, RECORD_SCHEMA};
pub use scratch::Scratch;
pub use store::Store;
pub use tree::{Node, Tree, TreeError};
pub use verify::{Damage, Finding, Repair, VerifyReport};
pub use writer::BlobWriter;
