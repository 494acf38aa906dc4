//! What the gate feeds: passes of every length, real embeddings, and random hidden states that are the same on every machine.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use super::Trouble;

/// Tokens in each pass of the block runs: 1, 2, … `block`, so that every number of used slots occurs, each pass but the first on
/// top of what the ones before it wrote. Narrow blocks go round until there is some history to attend to.
pub(super) fn plan(block: usize, context: Option<usize>) -> Vec<usize> {
    const LEAST_TOKENS: usize = 8;
    let mut counts = Vec::new();
    let mut total = 0;
    while total < LEAST_TOKENS {
        for count in 1..=block {
            if context.is_some_and(|context| total + count > context) {
                return counts;
            }
            counts.push(count);
            total += count;
        }
    }
    counts
}

/// A sequence of hidden states to push through a shard.
#[derive(Debug)]
pub(super) struct Stream {
    /// What reports call it.
    pub(super) name: String,
    /// Position of the first row. Rows before it get a random history in the KV cache.
    pub(super) start: usize,
    /// One hidden state a token.
    pub(super) rows: Vec<Vec<f16>>,
    /// Hidden states of drafts that are never accepted, one per slot. Louder than the tokens, so that whatever is shared among
    /// slots, a norm or a scale, moves.
    pub(super) drafts: Vec<Vec<f16>>,
}

/// How much louder drafts are than tokens.
const DRAFT_LOUDNESS: f64 = 4.0;

/// The streams for a shard `width` wide whose passes follow `plan`.
pub(super) fn streams(
    tokens: &[&[f16]],
    width: usize,
    context: Option<usize>,
    plan: &[usize],
) -> Result<Vec<Stream>, Trouble> {
    if tokens.is_empty() {
        return Err(Trouble::NoTokens);
    }
    let (count, block) = (plan.iter().sum::<usize>(), plan.iter().copied().max().unwrap_or(1));
    let embeddings: Vec<Vec<f16>> = tokens.iter().cycle().take(count).map(|row| row.to_vec()).collect();
    let loudness = rms(embeddings.iter().flatten());
    let mut streams = vec![Stream {
        name: "token embeddings".to_owned(),
        start: 0,
        rows: embeddings,
        drafts: Noise::new("drafts").rows(
            block,
            width,
            DRAFT_LOUDNESS * if loudness > 0.0 { loudness } else { 1.0 },
        ),
    }];
    let mut random = |name: &str, rms: f64, start: usize| {
        let mut noise = Noise::new(name);
        let (rows, drafts) = (noise.rows(count, width, rms), noise.rows(block, width, DRAFT_LOUDNESS * rms));
        streams.push(Stream { name: name.to_owned(), start, rows, drafts });
    };
    // 0.02 is the loudness of embeddings, 1 that of hidden states deep inside a model.
    random("random, rms 0.02", 0.02, 0);
    random("random, rms 1", 1.0, 0);
    match context {
        Some(context) if context > count => {
            random("random, rms 1, up to the end of the context", 1.0, context - count);
        }
        _ => {}
    }
    Ok(streams)
}

fn rms<'a>(values: impl Iterator<Item = &'a f16>) -> f64 {
    let (mut squares, mut count) = (0.0, 0);
    for value in values.filter(|value| value.is_finite()) {
        squares += value.to_f64() * value.to_f64();
        count += 1;
    }
    (squares / f64::from(count.max(1))).sqrt()
}

/// Random numbers that a report's reader can draw again anywhere: `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014) and sums of
/// twelve uniform numbers, which are as good as normal here and need no function whose last bit differs between machines.
pub(super) struct Noise(u64);

impl Noise {
    /// A sequence of its own for each `name`.
    pub(super) fn new(name: &str) -> Self {
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Mean 0, variance 1.
    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Fills `values` with numbers from −2 to below 2: for millions of values, where the shape does not matter and twelve draws
    /// each would.
    pub(super) fn fill_flat(&mut self, values: &mut [f16]) {
        let mut wide = [0.0; 256];
        for values in values.chunks_mut(wide.len()) {
            let Some(wide) = wide.get_mut(..values.len()) else { continue };
            wide.fill_with(|| (4.0 * self.unit() - 2.0) as f32);
            values.convert_from_f32_slice(wide);
        }
    }

    /// Fills `values` with `magnitude` and its negative: a draw is as many signs as it has bits.
    pub(super) fn fill_signs(&mut self, values: &mut [f16], magnitude: f16) {
        for values in values.chunks_mut(64) {
            let bits = self.bits();
            for (position, value) in values.iter_mut().enumerate() {
                let sign = (bits >> position & 1) as u16;
                *value = f16::from_bits(magnitude.to_bits() ^ sign << 15);
            }
        }
    }

    /// `count` rows of `width` values, each row of exactly this `rms` before it is rounded to fp16.
    fn rows(&mut self, count: usize, width: usize, rms: f64) -> Vec<Vec<f16>> {
        let row = |_| {
            let values: Vec<f64> = (0..width).map(|_| self.normal()).collect();
            let mean_square = values.iter().map(|value| value * value).sum::<f64>() / width as f64;
            let scale = if mean_square > 0.0 { rms / mean_square.sqrt() } else { 0.0 };
            values.into_iter().map(|value| f16::from_f32((value * scale) as f32)).collect()
        };
        (0..count).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_used_slots_occurs_and_some_history_is_there() {
        assert_eq!(plan(4, Some(2048)), [1, 2, 3, 4]);
        assert_eq!(plan(1, None), [1; 8]);
        assert_eq!(plan(2, Some(64)), [1, 2, 1, 2, 1, 2]);
        assert_eq!(plan(8, Some(64)).iter().sum::<usize>(), 36);
        assert_eq!(plan(4, Some(5)), [1, 2], "a context that is shorter than the plan");
    }

    #[test]
    fn streams_have_the_loudness_that_their_names_say_and_reach_both_ends_of_the_context() {
        let token = vec![f16::from_f32(0.5); 64];
        let streams = streams(&[&token], 64, Some(32), &[1, 2, 3, 4]).unwrap();
        let figures: Vec<(usize, usize, usize, f64)> = streams
            .iter()
            .map(|stream| {
                let loudness = rms(stream.rows.iter().flatten());
                (stream.start, stream.rows.len(), stream.drafts.len(), (loudness * 1e4).round() / 1e4)
            })
            .collect();
        assert_eq!(figures, [(0, 10, 4, 0.5), (0, 10, 4, 0.02), (0, 10, 4, 1.0), (22, 10, 4, 1.0)]);
        assert!((rms(streams[0].drafts.iter().flatten()) - 2.0).abs() < 1e-3);
    }

    #[test]
    fn random_numbers_are_the_same_everywhere_and_for_ever() {
        // SplitMix64 from state 0: the published first output.
        assert_eq!(Noise(0).bits(), 0xe220_a839_7b1d_cdaf);
        let row: Vec<u16> =
            Noise::new("random, rms 1").rows(1, 4, 1.0)[0].iter().map(|v| v.to_bits()).collect();
        assert_eq!(
            row,
            Noise::new("random, rms 1").rows(2, 4, 1.0)[0].iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        );
        assert_ne!(Noise::new("a").bits(), Noise::new("b").bits());
    }

    #[test]
    fn fillings_are_those_of_single_draws_and_have_every_sign() {
        let mut values = vec![f16::ZERO; 700];
        Noise::new("history").fill_flat(&mut values);
        let mut noise = Noise::new("history");
        let single: Vec<f16> = (0..700).map(|_| f16::from_f32((4.0 * noise.unit() - 2.0) as f32)).collect();
        assert_eq!(values, single);
        Noise::new("poison").fill_signs(&mut values, f16::from_f32(3.0));
        assert!(values.iter().all(|value| value.to_f32().abs().to_bits() == 3_f32.to_bits()));
        let negative = values.iter().filter(|value| value.is_sign_negative()).count();
        assert!((280..420).contains(&negative), "{negative} of 700 are negative");
    }
}
