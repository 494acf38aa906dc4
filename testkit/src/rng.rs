//! SplitMix64: a small, fast generator whose output is the same everywhere and for ever.
//!
//! After Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014). gguf's fixture script
//! has the same generator, so that both sides of a test can make the same bytes.

/// A stream of random numbers. Not for secrets.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The stream of a part of a whole: of `seed`, and of what the part is called and numbered.
    #[must_use]
    pub fn derived(seed: u64, name: &str, index: u64) -> Self {
        let mut stream = Self::new(seed);
        for byte in name.bytes() {
            stream.state = stream.next_u64() ^ u64::from(byte);
        }
        stream.state = stream.next_u64() ^ index;
        Self::new(stream.next_u64())
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.state;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0. The bias is at most `bound`/2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
        while bytes.len() < len {
            bytes.extend(self.next_u64().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// A number from a bell curve of mean 0 and standard deviation 1, within ±3.5: the sum of four uniform numbers of
    /// 16 bits, which is as close to a Gaussian as weights are, at one draw each.
    pub fn bell(&mut self) -> f32 {
        /// Mean of the sum of four.
        const MEAN: i32 = 2 * 0xffff;
        /// One over the standard deviation of the sum: a uniform number of 16 bits has variance (2^32 − 1)/12.
        const UNIT: f32 = 2.642_872_4e-5;
        let bits = self.next_u64();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        (sum as i32 - MEAN) as f32 * UNIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_published_numbers() {
        // The reference implementation's first outputs for seed 1234567 (https://prng.di.unimi.it/splitmix64.c).
        let mut stream = SplitMix64::new(1_234_567);
        assert_eq!(
            [stream.next_u64(), stream.next_u64(), stream.next_u64()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn bell_has_mean_0_and_deviation_1() {
        let mut stream = SplitMix64::new(3);
        let draws: Vec<f64> = (0..100_000).map(|_| f64::from(stream.bell())).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.01, "variance {variance}");
    }

    #[test]
    fn parts_have_streams_of_their_own() {
        let first = |name, index| SplitMix64::derived(9, name, index).next_u64();
        assert_eq!(first("a", 0), first("a", 0));
        assert_ne!(first("a", 0), first("a", 1));
        assert_ne!(first("a", 0), first("b", 0));
    }
}
