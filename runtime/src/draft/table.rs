//! What followed what: counts of the token after every run of one to eight tokens.
//!
//! A table can be kept in a file between requests. Such a file is a hint: it is bounded, it carries a version and the
//! vocabulary it speaks of, and one that is damaged or of another kind is refused by name and replaced by an empty
//! table. Two processes may use one file; each writes it whole, and the last one wins.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use foldhash::fast::RandomState;

use crate::token::TokenId;

/// The longest run that is counted. In replay over 53 thousand greedy tokens of a 7B model, backing off from eight was
/// the best of the lengths tried.
pub(super) const MAX_RUN: usize = 8;

/// Continuations kept of one run. The vote needs the frequent ones; the rest are noise.
const MAX_CONTINUATIONS: usize = 4;

/// Runs that a table holds which is kept between requests: some 12 MB as a file, at most.
pub const KEPT_RUNS: usize = 1 << 17;

const MAGIC: [u8; 8] = *b"anepdraf";
const VERSION: u32 = 1;
const ENTRY_BYTES: usize = 8 + 4 + 4 + 8;
const HEADER_BYTES: usize = 8 + 4 + 4 + 8 + 32;

/// One token that followed a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Continuation {
    token: TokenId,
    count: u32,
    /// When it was last seen, in tokens observed.
    seen: u64,
}

/// Counts of what followed what.
#[derive(Debug, Clone)]
pub struct Table {
    /// By hash of the run. Two runs of one hash mix their counts, which costs a wrong guess and nothing else.
    ///
    /// A draft looks at some thirty runs; with the standard library's hash that took twice as long, 2 µs beside a small model's pass
    /// of 60.
    runs: HashMap<u64, Vec<Continuation>, RandomState>,
    most_runs: usize,
    clock: u64,
}

/// A table's file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It could not be read or written.
    #[error("the draft table: {0}")]
    Io(#[from] std::io::Error),
    /// It is not a table, or not one of this version and vocabulary.
    #[error("the draft table {}: {reason}; delete it, and a new one is made", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Table {
    /// An empty table that holds at most `most_runs` runs.
    pub fn new(most_runs: usize) -> Self {
        Self { runs: HashMap::default(), most_runs: most_runs.max(1), clock: 0 }
    }

    /// How many runs are counted.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Counts `next` as what followed `before`, for every run at the end of `before`.
    pub fn count(&mut self, before: &[TokenId], next: TokenId) {
        // A file may claim any time.
        self.clock = self.clock.saturating_add(1);
        for length in 1..=MAX_RUN.min(before.len()) {
            let hash = hash(&before[before.len() - length..]);
            if self.runs.len() >= self.most_runs && !self.runs.contains_key(&hash) {
                self.forget_older_half();
            }
            let seen = self.clock;
            let continuations = self.runs.entry(hash).or_default();
            if let Some(known) = continuations.iter_mut().find(|known| known.token == next) {
                known.count = known.count.saturating_add(1);
                known.seen = seen;
            } else if continuations.len() < MAX_CONTINUATIONS {
                continuations.push(Continuation { token: next, count: 1, seen });
            } else if let Some(least) = continuations.iter_mut().min_by_key(|known| (known.count, known.seen))
            {
                *least = Continuation { token: next, count: 1, seen };
            }
        }
    }

    /// The token that most often followed the longest known run at the end of `before`, ties to the most recent, and the
    /// length of that run.
    pub fn guess(&self, before: &[TokenId]) -> Option<(TokenId, usize)> {
        (1..=MAX_RUN.min(before.len())).rev().find_map(|length| {
            let continuations = self.runs.get(&hash(&before[before.len() - length..]))?;
            let best = continuations.iter().max_by_key(|known| (known.count, known.seen))?;
            Some((best.token, length))
        })
    }

    /// Drops the half of the runs that were seen longest ago.
    fn forget_older_half(&mut self) {
        let last_seen = |run: &[Continuation]| run.iter().map(|known| known.seen).max().unwrap_or_default();
        let mut times: Vec<u64> = self.runs.values().map(|run| last_seen(run)).collect();
        let middle = times.len() / 2;
        let (_, &mut median, _) = times.select_nth_unstable(middle);
        self.runs.retain(|_, run| last_seen(run) > median);
    }

    /// Reads a table that was written for `vocabulary` (a digest of the tokenizer). A file that is not there is an empty
    /// table.
    pub fn read(path: &Path, vocabulary: [u8; 32], most_runs: usize) -> Result<Self, TableError> {
        let mut table = Self::new(most_runs);
        let refused = |reason: &str| TableError::Refused { path: path.to_owned(), reason: reason.to_owned() };
        let file = match fs_err::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(table),
            Err(error) => return Err(error.into()),
        };
        let most_bytes = HEADER_BYTES + most_runs.saturating_mul(MAX_CONTINUATIONS * ENTRY_BYTES);
        let mut bytes = Vec::new();
        file.take(most_bytes as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > most_bytes {
            return Err(refused("it is larger than a table may be"));
        }
        let Some((header, entries)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(refused("it is cut short"));
        };
        let mut fields = Fields(header);
        if fields.take() != MAGIC {
            return Err(refused("it is not a draft table"));
        }
        if u32::from_le_bytes(fields.take()) != VERSION {
            return Err(refused("it is of another version"));
        }
        let checksum = u32::from_le_bytes(fields.take());
        table.clock = u64::from_le_bytes(fields.take());
        if fields.take() != vocabulary {
            return Err(refused("it speaks of another vocabulary"));
        }
        if checksum != check(entries) || !entries.len().is_multiple_of(ENTRY_BYTES) {
            return Err(refused("it is damaged"));
        }
        for entry in entries.chunks_exact(ENTRY_BYTES) {
            let mut fields = Fields(entry);
            let run = u64::from_le_bytes(fields.take());
            let token = u32::from_le_bytes(fields.take());
            let count = u32::from_le_bytes(fields.take());
            let seen = u64::from_le_bytes(fields.take());
            let continuations = table.runs.entry(run).or_default();
            if continuations.len() < MAX_CONTINUATIONS {
                continuations.push(Continuation { token, count, seen });
            }
        }
        // A file within its bytes can still hold more runs than wanted, each with fewer continuations.
        while table.runs.len() > table.most_runs {
            table.forget_older_half();
        }
        Ok(table)
    }

    /// Writes the table, whole or not at all.
    pub fn write(&self, path: &Path, vocabulary: [u8; 32]) -> Result<(), TableError> {
        let mut runs: Vec<_> = self.runs.iter().collect();
        runs.sort_unstable_by_key(|(hash, _)| **hash);
        let mut entries = Vec::with_capacity(runs.len() * ENTRY_BYTES);
        for (run, continuations) in runs {
            for Continuation { token, count, seen } in continuations {
                entries.extend_from_slice(&run.to_le_bytes());
                entries.extend_from_slice(&token.to_le_bytes());
                entries.extend_from_slice(&count.to_le_bytes());
                entries.extend_from_slice(&seen.to_le_bytes());
            }
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs_err::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&MAGIC)?;
        file.write_all(&VERSION.to_le_bytes())?;
        file.write_all(&check(&entries).to_le_bytes())?;
        file.write_all(&self.clock.to_le_bytes())?;
        file.write_all(&vocabulary)?;
        file.write_all(&entries)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Takes fixed-size fields off the front of bytes that were checked to be long enough.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *field
    }
}

/// FNV-1a over the tokens and their number.
fn hash(run: &[TokenId]) -> u64 {
    let step = |hash: u64, value: u32| (hash ^ u64::from(value)).wrapping_mul(0x0100_0000_01b3);
    let seed = step(0xcbf2_9ce4_8422_2325, run.len() as u32);
    let mixed = run.iter().fold(seed, |hash, &token| step(step(hash, token & 0xffff), token >> 16));
    mixed ^ (mixed >> 29)
}

/// The first four bytes of the blake3 digest.
fn check(bytes: &[u8]) -> u32 {
    let digest = *blake3::hash(bytes).as_bytes();
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
