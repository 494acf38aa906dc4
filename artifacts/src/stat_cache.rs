//! The digests of input files, remembered by what the file system says about them.
//!
//! A file is taken to be the same while its path, size, modification and change times, inode and device are. That is only
//! safe for a file that was at rest when it was hashed: a second write in the same tick of the file system's clock leaves the
//! times as they were. So an entry is believed only if the file was last changed at least [`REST`] before it was looked at.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Doing, Result, StoreError};
use crate::hash::hash_file;
use crate::store::Store;

/// How long a file must have been at rest, in nanoseconds: two seconds, the coarsest clock of a common file system.
const REST: i128 = 2_000_000_000;

/// What the file system says about a file. Times are seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stat {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    device: u64,
}

/// A file's digest with the state in which it was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    stat: Stat,
    /// When `stat` was taken, before the hashing.
    seen: (i64, i64),
    digest: Digest,
}

impl Stat {
    fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            device: meta.dev(),
        }
    }
}

fn nanos((seconds, nanos): (i64, i64)) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}

impl Entry {
    /// The digest, if the file is still as it was and was at rest then.
    fn digest(&self, now: &Stat) -> Option<Digest> {
        let last_change = nanos(self.stat.modified).max(nanos(self.stat.changed));
        (self.stat == *now && nanos(self.seen) - last_change >= REST).then_some(self.digest)
    }
}

impl Store {
    /// The digest and size of a file that the user gave. Hashed once, then remembered while the file stays as it is.
    ///
    /// A file that was changed less than two seconds before it was hashed is hashed again the next time.
    pub fn digest_of_input(&self, path: &Path) -> Result<(Digest, u64)> {
        /// A file that changes this often while it is hashed is being written.
        const TRIES: usize = 2;
        let doing = || format!("reading {}", path.display());
        let key = std::path::absolute(path).doing(doing())?;
        let file = fs::File::open(&key).doing(doing())?.into_file();
        let meta = file.metadata().doing(doing())?;
        if !meta.is_file() {
            let what = if meta.is_dir() { "it is a directory" } else { "it is not a regular file" };
            return Err(StoreError::refused("reading", path, what));
        }
        let mut stat = Stat::of(&meta);
        if let Some(digest) = self.index().stat(&key).and_then(|entry| entry.digest(&stat)) {
            return Ok((digest, stat.size));
        }
        for _ in 0..TRIES {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let seen = (since.as_secs() as i64, i64::from(since.subsec_nanos()));
            let (digest, size) = hash_file(&file).doing(doing())?;
            let after = Stat::of(&file.metadata().doing(doing())?);
            if after == stat && size == stat.size {
                self.index().set_stat(key, Entry { stat, seen, digest });
                return Ok((digest, size));
            }
            stat = after;
        }
        Err(StoreError::refused("reading", path, "it changes while it is read; run again when it is written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_believed_only_for_a_file_at_rest() {
        let digest = Digest::of_bytes(b"");
        let stat = Stat { size: 7, modified: (100, 5), changed: (100, 5), inode: 1, device: 2 };
        for (what, modified, changed, seen, believed) in [
            ("at rest for two seconds", (100, 5), (100, 5), (102, 5), true),
            ("a nanosecond less", (100, 5), (100, 5), (102, 4), false),
            ("just written", (100, 5), (100, 5), (100, 6), false),
            ("written in the future", (200, 0), (100, 5), (110, 0), false),
            ("old time restored just now", (50, 0), (109, 0), (110, 0), false),
            ("times before 1970", (-10, 0), (-10, 0), (0, 0), true),
            ("extreme times", (i64::MIN, 0), (i64::MAX, 999_999_999), (i64::MIN, 0), false),
        ] {
            let stat = Stat { modified, changed, ..stat };
            assert_eq!(Entry { stat, seen, digest }.digest(&stat).is_some(), believed, "{what}");
        }
        let entry = Entry { stat, seen: (200, 0), digest };
        for (what, other) in [
            ("size", Stat { size: 8, ..stat }),
            ("modified", Stat { modified: (100, 6), ..stat }),
            ("changed", Stat { changed: (100, 6), ..stat }),
            ("inode", Stat { inode: 9, ..stat }),
            ("device", Stat { device: 9, ..stat }),
        ] {
            assert_eq!(entry.digest(&other), None, "another {what} was overlooked");
        }
    }
}
