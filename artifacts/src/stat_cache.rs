//! The digests of input files, remembered by what the file system says about them.
//!
//! A file is taken to be the same while its path, size, modification and change times, inode and device are. That is only
//! safe for a file that was at rest when it was hashed: a second write in the same tick of the file system's clock leaves the
//! times as they were. So an entry is believed only if the file was last changed at least [`REST`] before it was looked at.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Doing, Result, StoreError};
use crate::hash::{hash_file, hash_ranges};
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

/// What was hashed of a file, with the state in which it was hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    stat: Stat,
    /// When `stat` was taken, before the hashing.
    seen: (i64, i64),
    /// Of the whole file.
    digest: Option<Digest>,
    /// Of parts of it: start, end, digest.
    ranges: Vec<(u64, u64, Digest)>,
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
    /// Nothing hashed yet of a file in the state `stat`, taken now.
    fn new(stat: Stat) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seen = (since.as_secs() as i64, i64::from(since.subsec_nanos()));
        Self { stat, seen, digest: None, ranges: Vec::new() }
    }

    /// Whether the file is still as it was and was at rest then.
    fn holds(&self, now: &Stat) -> bool {
        let last_change = nanos(self.stat.modified).max(nanos(self.stat.changed));
        self.stat == *now && nanos(self.seen) - last_change >= REST
    }

    /// The digest of a part.
    fn range(&self, range: &Range<u64>) -> Option<Digest> {
        let known = self.ranges.iter().find(|(start, end, _)| (*start, *end) == (range.start, range.end));
        known.map(|(_, _, digest)| *digest)
    }
}

/// A file that changes this often while it is hashed is being written.
const TRIES: usize = 2;

impl Store {
    /// The digest and size of a file that the user gave. Hashed once, then remembered while the file stays as it is.
    ///
    /// A file that was changed less than two seconds before it was hashed is hashed again the next time.
    pub fn digest_of_input(&self, path: &Path) -> Result<(Digest, u64)> {
        self.hashed(path, |file, entry| {
            if entry.digest.is_none() {
                entry.digest = Some(hash_file(file)?.0);
            }
            Ok(entry.digest.map(|digest| (digest, entry.stat.size)))
        })
    }

    /// The digests of parts of a file that the user gave, remembered in the same way.
    pub fn digests_of_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Digest>> {
        self.hashed(path, |file, entry| {
            let missing: Vec<_> =
                ranges.iter().filter(|range| entry.range(range).is_none()).cloned().collect();
            let digests = hash_ranges(file, &missing)?;
            entry.ranges.extend(
                missing.into_iter().zip(digests).map(|(range, digest)| (range.start, range.end, digest)),
            );
            Ok(ranges.iter().map(|range| entry.range(range)).collect())
        })
    }

    /// What `read` finds in the entry of a file, or puts there by hashing; kept if the file stays as it is meanwhile.
    fn hashed<T>(&self, path: &Path, read: impl Fn(&File, &mut Entry) -> io::Result<Option<T>>) -> Result<T> {
        let doing = || format!("reading {}", path.display());
        let key = std::path::absolute(path).doing(doing())?;
        let file = fs::File::open(&key).doing(doing())?.into_file();
        let stat = || -> Result<Stat> {
            let meta = file.metadata().doing(doing())?;
            if meta.is_file() {
                return Ok(Stat::of(&meta));
            }
            let what = if meta.is_dir() { "it is a directory" } else { "it is not a regular file" };
            Err(StoreError::refused("reading", path, what))
        };
        for _ in 0..TRIES {
            let before = stat()?;
            let known = self.index().stat(&key).filter(|entry| entry.holds(&before));
            let mut entry = known.clone().unwrap_or_else(|| Entry::new(before));
            let found = read(&file, &mut entry).doing(doing())?;
            if known.as_ref() == Some(&entry) {
                // Nothing was hashed.
                if let Some(found) = found {
                    return Ok(found);
                }
            } else if stat()? == before {
                self.index().set_stat(key.clone(), entry);
                if let Some(found) = found {
                    return Ok(found);
                }
            }
        }
        Err(StoreError::refused("reading", path, "it changes while it is read; run again when it is written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is remembered for a file answers without a look at its content: so a wrong digest, planted, comes back, until
    /// the file was not at rest when it was remembered. Also by way of the database.
    #[test]
    fn what_is_remembered_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, b"content").unwrap();
        let [planted, real] = [b"planted" as &[u8], b"content"].map(Digest::of_bytes);
        let stat = Stat::of(&std::fs::metadata(&path).unwrap());
        for (what, seconds_at_rest, expected) in [("at rest", 3, planted), ("just written", 1, real)] {
            let seen = (stat.changed.0 + seconds_at_rest, stat.changed.1);
            let store = Store::open(dir.path().join("cache")).unwrap();
            let entry = Entry { stat, seen, digest: Some(planted), ranges: vec![(0, 3, planted)] };
            store.index().set_stat(path.clone(), entry);
            drop(store);
            let store = Store::open(dir.path().join("cache")).unwrap();
            assert_eq!(store.digest_of_input(&path).unwrap(), (expected, 7), "{what}");
            let part = if expected == planted { planted } else { Digest::of_bytes(b"con") };
            assert_eq!(store.digests_of_ranges(&path, &[0..3, 0..3]).unwrap(), [part, part], "{what}");
        }
    }

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
            let entry = Entry { stat, seen, digest: Some(digest), ranges: vec![] };
            assert_eq!(entry.holds(&stat), believed, "{what}");
        }
        let entry = Entry { stat, seen: (200, 0), digest: Some(digest), ranges: vec![] };
        for (what, other) in [
            ("size", Stat { size: 8, ..stat }),
            ("modified", Stat { modified: (100, 6), ..stat }),
            ("changed", Stat { changed: (100, 6), ..stat }),
            ("inode", Stat { inode: 9, ..stat }),
            ("device", Stat { device: 9, ..stat }),
        ] {
            assert!(!entry.holds(&other), "another {what} was overlooked");
        }
    }

    #[test]
    fn a_part_has_the_digest_of_its_bytes_and_follows_their_changes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("cache")).unwrap();
        let file = folder.path().join("file");
        let ranges = [0..3, 2..6, 6..6];
        for content in [b"abcdef", b"abcdeF"] {
            fs::write(&file, content).unwrap();
            let expected: Vec<_> =
                ranges.iter().map(|r| Digest::of_bytes(&content[r.start as usize..r.end as usize])).collect();
            assert_eq!(store.digests_of_ranges(&file, &ranges).unwrap(), expected);
            assert_eq!(store.digest_of_input(&file).unwrap(), (Digest::of_bytes(content), 6));
        }
        assert!(store.digests_of_ranges(&file, &[0..6, 0..7]).is_err(), "a range beyond the end");
    }
}
