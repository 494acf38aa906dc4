//! How the LM head is cut into shards.

use std::ops::Range;

use super::{MAX_SHARD_BYTES, TopologyError, even_counts};

/// The most channels a tensor may have on the Neural Engine, on every chip (aneforge's per-chip targets): logits are
/// channels, one a row of the vocabulary. An index into more would not fit 16 bits either, which is where Core ML's own
/// top-k wraps. The other extents of a head, its T positions and its contraction over d, do not depend on the cut.
pub const MAX_HEAD_ROWS: u32 = 1 << 16;

/// Cuts a vocabulary into consecutive ranges of rows that cover it exactly: the fewest that keep [`MAX_HEAD_ROWS`] and
/// [`MAX_SHARD_BYTES`], as even as possible, because slices of as many rows share one graph. Phi-4-mini's 200,064 rows
/// are 4 × 50,016. `row_bytes` is what a row weighs in a compiled program.
pub fn cut_head(vocab: u32, row_bytes: u64) -> Result<Vec<Range<u32>>, TopologyError> {
    let by_bytes = u32::try_from(MAX_SHARD_BYTES / row_bytes.max(1)).unwrap_or(u32::MAX);
    let most = match by_bytes.min(MAX_HEAD_ROWS) {
        0 => return Err(TopologyError::RowTooLarge { bytes: row_bytes }),
        most => most,
    };
    let mut start = 0;
    let ranges = even_counts(vocab, most).into_iter().map(|count| {
        let rows = start..start + count;
        start = rows.end;
        rows
    });
    Ok(ranges.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vocabularies_of_real_models_are_cut_as_their_sizes_ask() {
        // Bytes a row: d for int8, with its scale; 2 · d for f16.
        for (model, vocab, row_bytes, counts) in [
            ("stories260K", 512, 2 * 64, vec![512]),
            ("Llama 2", 32_000, 4096 + 2, vec![32_000]),
            ("the limit itself", 65_536, 2, vec![65_536]),
            ("one more", 65_537, 2, vec![32_769, 32_768]),
            ("Llama 3", 128_256, 4096 + 2, vec![64_128, 64_128]),
            ("Qwen 2", 151_936, 3584 + 2, vec![50_646, 50_645, 50_645]),
            ("Phi-4-mini, int8", 200_064, 3072 + 2, vec![50_016; 4]),
            ("Phi-4-mini, f16", 200_064, 2 * 3072, vec![50_016; 4]),
            ("bytes decide", 128_256, 2 * 16_384, vec![32_064; 4]),
            ("one token", 1, 2, vec![1]),
        ] {
            let rows = cut_head(vocab, row_bytes).unwrap();
            assert_eq!(rows.iter().map(Range::len).collect::<Vec<_>>(), counts, "{model}");
        }
    }

    #[test]
    fn a_row_that_fits_no_shard_is_refused() {
        let error = cut_head(2, MAX_SHARD_BYTES + 1).unwrap_err();
        assert_eq!(error, TopologyError::RowTooLarge { bytes: MAX_SHARD_BYTES + 1 });
        assert_eq!(cut_head(2, MAX_SHARD_BYTES).unwrap(), [0..1, 1..2]);
    }

    proptest! {
        #[test]
        fn a_cut_covers_evenly_within_the_limits(vocab in 1_u32..1_000_000, row_bytes in 1_u64..100_000) {
            let shards = cut_head(vocab, row_bytes).unwrap();
            let first = shards.first().map(|rows| rows.start);
            let last = shards.last().map(|rows| rows.end);
            prop_assert_eq!((first, last), (Some(0), Some(vocab)));
            prop_assert!(shards.windows(2).all(|pair| pair[0].end == pair[1].start));
            let (most, least) = (shards[0].len() as u64, shards[shards.len() - 1].len() as u64);
            prop_assert!(most - least <= 1);
            prop_assert!(most <= u64::from(MAX_HEAD_ROWS) && most * row_bytes <= MAX_SHARD_BYTES);
        }
    }
}
