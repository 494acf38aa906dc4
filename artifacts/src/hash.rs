//! Hashing files at the speed of memory.
//!
//! BLAKE3 is a tree of 1 KiB chunks. A large file is cut into subtrees of [`PIECE`] bytes that several threads read and
//! hash at once; their chaining values, joined in the tree's order, give the same digest as one thread would.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::digest::Digest;

/// Bytes of a subtree: a power of two (a rule of the tree), large enough to make joining free.
const PIECE: u64 = 8 << 20;
/// Bytes read at once: half of it stays in a core's second-level cache while it is hashed.
const BUFFER: usize = 512 << 10;
/// Files up to here are not worth a thread.
const SMALL: u64 = 4 * PIECE;

/// The digest and size of an open file's content, from its first byte on.
pub(crate) fn hash_file(file: &File) -> io::Result<(Digest, u64)> {
    let size = file.metadata()?.len();
    // Asking for the number of processors reads files of its own; not for each small one.
    let threads =
        if size <= SMALL { 1 } else { std::thread::available_parallelism().map_or(1, usize::from).min(8) };
    hash_file_with(file, size, threads, PIECE)
}

fn hash_file_with(file: &File, size: u64, threads: usize, piece_size: u64) -> io::Result<(Digest, u64)> {
    if size <= piece_size || threads < 2 {
        let mut hasher = blake3::Hasher::new();
        // A byte more than expected, so that a file that grows is read to its end.
        let read = hash_range(file, 0, u64::MAX, size.saturating_add(1), &mut hasher)?;
        return Ok((hasher.finalize().into(), read));
    }
    let pieces = usize::try_from(size.div_ceil(piece_size)).map_err(io::Error::other)?;
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<Vec<(usize, ChainingValue)>> {
        let mut done = Vec::new();
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return Ok(done);
            }
            let start = piece as u64 * piece_size;
            let length = piece_size.min(size - start);
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset(start);
            if hash_range(file, start, length, length, &mut hasher)? != length {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file shrank while it was read",
                ));
            }
            done.push((piece, hasher.finalize_non_root()));
        }
    };
    let mut values = std::thread::scope(|scope| -> io::Result<Vec<_>> {
        let others: Vec<_> = (1..threads.min(pieces)).map(|_| scope.spawn(work)).collect();
        let mut values = work()?;
        for other in others {
            values.extend(other.join().map_err(|_| io::Error::other("a hashing thread panicked"))??);
        }
        Ok(values)
    })?;
    values.sort_unstable_by_key(|(piece, _)| *piece);
    let values: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
    Ok((join_root(&values).into(), size))
}

/// The digests of ranges of a file, each as of a file of its own.
pub(crate) fn hash_ranges(file: &File, ranges: &[Range<u64>]) -> io::Result<Vec<Digest>> {
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<Vec<(usize, Digest)>> {
        let mut done = Vec::new();
        loop {
            let position = next.fetch_add(1, Ordering::Relaxed);
            let Some(range) = ranges.get(position) else { return Ok(done) };
            let length = range.end.saturating_sub(range.start);
            let mut hasher = blake3::Hasher::new();
            if hash_range(file, range.start, length, length, &mut hasher)? != length {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file ends before the range does",
                ));
            }
            done.push((position, hasher.finalize().into()));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8).min(ranges.len());
    let mut digests = std::thread::scope(|scope| -> io::Result<Vec<_>> {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut digests = work()?;
        for other in others {
            digests.extend(other.join().map_err(|_| io::Error::other("a hashing thread panicked"))??);
        }
        Ok(digests)
    })?;
    digests.sort_unstable_by_key(|(position, _)| *position);
    Ok(digests.into_iter().map(|(_, digest)| digest).collect())
}

/// Feeds up to `length` bytes from `start` on, of which some `expected` are there, and says how many there were.
fn hash_range(
    file: &File,
    start: u64,
    length: u64,
    expected: u64,
    hasher: &mut blake3::Hasher,
) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER.min(usize::try_from(expected).unwrap_or(BUFFER))];
    let mut done = 0;
    while done < length {
        let want = buffer.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
        match file.read_at(buffer.get_mut(..want).unwrap_or_default(), start + done) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(buffer.get(..n).unwrap_or_default());
                done += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// The root over the values of equal pieces (the last may be shorter).
fn join_root(values: &[ChainingValue]) -> blake3::Hash {
    let (left, right) = values.split_at(left_pieces(values.len()));
    merge_subtrees_root(&join(left), &join(right), Mode::Hash)
}

fn join(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [] => [0; 32],
        [one] => *one,
        many => {
            let (left, right) = many.split_at(left_pieces(many.len()));
            merge_subtrees_non_root(&join(left), &join(right), Mode::Hash)
        }
    }
}

/// The left child of a node holds the largest power of two that leaves something to the right.
const fn left_pieces(n: usize) -> usize {
    if n < 2 { n } else { n.next_power_of_two() / 2 }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn pieces_give_the_digest_of_the_whole() {
        const KIB: u64 = 1024;
        let mut bytes = vec![0; (SMALL + PIECE + 1) as usize];
        let mut state = 1_u64;
        for word in bytes.chunks_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let some_kib = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65];
        let small = some_kib.iter().flat_map(|kib| [kib * KIB, kib * KIB + 1, kib * KIB + 1023]);
        let small = small.flat_map(|size| [(size, KIB), (size, 4 * KIB)]);
        for (size, piece) in small.chain([(SMALL + PIECE + 1, PIECE)]) {
            file.set_len(size).unwrap();
            file.rewind().unwrap();
            file.write_all(&bytes[..size as usize]).unwrap();
            let expected = (Digest::of_bytes(&bytes[..size as usize]), size);
            for threads in [1, 2, 3] {
                let found = hash_file_with(&file, size, threads, piece).unwrap();
                assert_eq!(found, expected, "{size} bytes in pieces of {piece}, {threads} threads");
            }
        }
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SMALL).unwrap();
        assert_eq!(
            hash_file_with(&file, SMALL + 1, 2, PIECE).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
