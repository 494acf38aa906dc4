//! What the machine's memory gives to whoever only reads or copies: what passes are held to.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Instant;

use anepipe_mil::modelc::ModelC;
use anepipe_runtime::bundle::Parts;
use rayon::prelude::*;

/// Bytes that a thread takes at a time: enough that taking costs nothing, few enough that all threads end together.
const SHARE: usize = 256 << 10;

/// A buffer, and threads that go over it.
pub(super) struct Memory {
    buffer: Vec<u8>,
    pool: rayon::ThreadPool,
}

impl Memory {
    /// `bytes` of memory that is really there: every page is written to.
    pub(super) fn new(bytes: usize, threads: NonZeroUsize) -> anyhow::Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build()?;
        Ok(Self { buffer: vec![1; bytes], pool })
    }

    /// Seconds that reading the buffer takes.
    pub(super) fn read(&self) -> f64 {
        self.time(&[&self.buffer])
    }

    /// Seconds that reading a model's weights takes, where they are mapped.
    pub(super) fn read_all(&self, weights: &Weights) -> f64 {
        self.time(&weights.blobs())
    }

    /// Seconds that copying one half of the buffer to the other takes.
    pub(super) fn copy(&mut self) -> f64 {
        let half = self.copied();
        let (from, to) = self.buffer.split_at_mut(half);
        let begun = Instant::now();
        self.pool.install(|| {
            to[..half].par_chunks_mut(SHARE).zip(from.par_chunks(SHARE)).for_each(|(to, from)| {
                to.copy_from_slice(from);
            });
        });
        let took = begun.elapsed().as_secs_f64();
        black_box(&self.buffer);
        took
    }

    /// Bytes that [`Self::copy`] copies.
    pub(super) fn copied(&self) -> usize {
        self.buffer.len() / 2
    }

    fn time(&self, parts: &[&[u8]]) -> f64 {
        let begun = Instant::now();
        let sum = self.pool.install(|| {
            parts.par_iter().flat_map(|part| part.par_chunks(SHARE)).map(sum).reduce(|| 0, |a, b| a ^ b)
        });
        black_box(sum);
        begun.elapsed().as_secs_f64()
    }
}

/// Touches every byte. Four sums, so that none waits for another.
fn sum(bytes: &[u8]) -> u64 {
    let mut sums = [0_u64; 4];
    let (words, rest) = bytes.as_chunks::<8>();
    let (fours, others) = words.as_chunks::<4>();
    for four in fours {
        for (sum, word) in sums.iter_mut().zip(four) {
            *sum ^= u64::from_ne_bytes(*word);
        }
    }
    let others = others.iter().fold(0, |sum, word| sum ^ u64::from_ne_bytes(*word));
    let rest = rest.iter().fold(0, |sum, &byte| sum ^ u64::from(byte));
    sums.iter().fold(others ^ rest, |sum, each| sum ^ each)
}

/// The weights of every shard, mapped.
pub(super) struct Weights(Vec<ModelC>);

impl Weights {
    /// Maps the weight files of all layers and heads.
    pub(super) fn open(parts: &Parts) -> anyhow::Result<Self> {
        let shards = parts.layers.iter().chain(parts.heads.iter().map(|head| &head.path));
        Ok(Self(shards.map(ModelC::open).collect::<Result<_, _>>()?))
    }

    /// Bytes that a pass reads of them: each weight once.
    pub(super) fn bytes(&self) -> u64 {
        self.blobs().iter().map(|blob| blob.len() as u64).sum()
    }

    fn blobs(&self) -> Vec<&[u8]> {
        let files = self.0.iter().flat_map(|model| model.weights().values());
        files.flat_map(|file| file.blobs().filter_map(Result::ok).map(|(_, blob)| blob.data)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        let mut bytes = vec![0_u8; 77];
        assert_eq!(sum(&bytes), 0);
        for index in 0..bytes.len() {
            bytes[index] = 1;
            assert_ne!(sum(&bytes), 0, "byte {index} is not read");
            bytes[index] = 0;
        }
    }

    #[test]
    fn a_copy_is_of_one_half_to_the_other() {
        let mut memory = Memory::new(3 * SHARE, NonZeroUsize::MIN).expect("memory");
        let half = memory.copied();
        memory.buffer[..half].fill(7);
        memory.copy();
        assert!(memory.buffer.iter().all(|&byte| byte == 7));
    }
}
