//! How a model's layers are cut into shards.
//!
//! A shard is one compiled program. The Neural Engine refuses programs that are too large, silently, by running them
//! on the CPU, so the cut is decided by size, not by taste.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The largest compiled shard that macOS 27 was seen to place on the Neural Engine is 1,072,681,458 bytes; one of
/// 1,074,770,418 bytes was not (release notes of eeANE 1.6.1). macOS 26 and older go to about 2 GiB. The smaller
/// limit is right for both.
pub const MAX_SHARD_BYTES: u64 = 1 << 30;

/// Loading failed with error −14 somewhere between 3,164 and 3,284 operations in one program (`mil_spec`), so no more
/// than the count that is known to load.
pub const MAX_SHARD_OPS: u64 = 3_164;

/// A half-open range of layers, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerRange {
    start: u32,
    end: u32,
}

impl LayerRange {
    /// The layers `start..end`.
    pub fn new(start: u32, end: u32) -> Result<Self, TopologyError> {
        if start < end { Ok(Self { start, end }) } else { Err(TopologyError::EmptyRange { start, end }) }
    }

    /// First layer.
    pub fn start(self) -> u32 {
        self.start
    }

    /// One past the last layer.
    pub fn end(self) -> u32 {
        self.end
    }

    /// How many layers; at least 1.
    pub fn count(self) -> u32 {
        self.end - self.start
    }

    /// The layers in order.
    pub fn iter(self) -> Range<u32> {
        self.start..self.end
    }
}

impl fmt::Display for LayerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl FromStr for LayerRange {
    type Err = TopologyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || TopologyError::MalformedRange(text.to_owned());
        let (start, end) = text.split_once("..").ok_or_else(malformed)?;
        let number = |part: &str| part.parse::<u32>().map_err(|_| malformed());
        Self::new(number(start)?, number(end)?)
    }
}

/// How to cut: by hand, or by the size rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Topology {
    /// The fewest shards that keep [`MAX_SHARD_BYTES`] and [`MAX_SHARD_OPS`], as even as possible, because shards of
    /// one shape share one graph.
    #[default]
    Auto,
    /// Layers per shard, first shard first; each at least 1.
    Layers(Vec<u32>),
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Layers(counts) => {
                let parts: Vec<String> = counts.iter().map(u32::to_string).collect();
                f.write_str(&parts.join("+"))
            }
        }
    }
}

impl FromStr for Topology {
    type Err = TopologyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let counts: Option<Vec<u32>> =
            text.split('+').map(|part| part.parse().ok().filter(|&count| count > 0)).collect();
        counts.map(Self::Layers).ok_or_else(|| TopologyError::MalformedTopology(text.to_owned()))
    }
}

/// What one layer costs a shard; [`Topology::Auto`] decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerCost {
    /// Bytes of weights in the compiled program.
    pub bytes: u64,
    /// Operations in the compiled program.
    pub ops: u64,
}

impl Topology {
    /// Cuts `layers` into consecutive shards that cover them exactly.
    pub fn cut(&self, layers: LayerRange, cost: LayerCost) -> Result<Vec<LayerRange>, TopologyError> {
        let counts = match self {
            Self::Layers(counts) => {
                let covered: u64 = counts.iter().map(|&count| u64::from(count)).sum();
                if covered != u64::from(layers.count()) {
                    return Err(TopologyError::DoesNotCover { topology: self.to_string(), covered, layers });
                }
                counts.clone()
            }
            Self::Auto => even_counts(layers.count(), most_layers(cost)?),
        };
        let mut start = layers.start();
        counts
            .into_iter()
            .map(|count| {
                let shard = LayerRange::new(start, start + count)?;
                start = shard.end();
                Ok(shard)
            })
            .collect()
    }
}

/// How many layers of this cost fit one shard.
fn most_layers(cost: LayerCost) -> Result<u32, TopologyError> {
    let by_bytes = MAX_SHARD_BYTES / cost.bytes.max(1);
    let by_ops = MAX_SHARD_OPS / cost.ops.max(1);
    match u32::try_from(by_bytes.min(by_ops)).unwrap_or(u32::MAX) {
        0 => Err(TopologyError::LayerTooLarge { bytes: cost.bytes, ops: cost.ops }),
        most => Ok(most),
    }
}

/// The fewest parts of at most `most`, differing by at most one, larger parts first.
fn even_counts(total: u32, most: u32) -> Vec<u32> {
    let parts = total.div_ceil(most);
    let (each, longer) = (total / parts, total % parts);
    (0..parts).map(|part| each + u32::from(part < longer)).collect()
}

/// A range or topology that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// Not `A..B`.
    #[error("\"{0}\" is not a range of layers; write it half-open, as in 0..32")]
    MalformedRange(String),
    /// `A..B` with A ≥ B.
    #[error("the range of layers {start}..{end} is empty; its end must be larger than its start")]
    EmptyRange {
        /// Given start.
        start: u32,
        /// Given end.
        end: u32,
    },
    /// Neither `auto` nor positive counts joined by `+`.
    #[error("\"{0}\" is not a topology; write auto, or layers per shard as in 20+4+6+2")]
    MalformedTopology(String),
    /// The counts do not add up to the layers.
    #[error(
        "the topology {topology} covers {covered} layers, but layers {layers} are {count}; make the sum {count}",
        count = layers.count()
    )]
    DoesNotCover {
        /// Given topology.
        topology: String,
        /// Sum of its counts.
        covered: u64,
        /// The layers to cover.
        layers: LayerRange,
    },
    /// One layer alone breaks a limit.
    #[error(
        "one layer alone has {bytes} bytes of weights and {ops} operations; a shard holds at most {} bytes and {} \
         operations on the Neural Engine; give --topology by hand to cut anyway",
        MAX_SHARD_BYTES,
        MAX_SHARD_OPS
    )]
    LayerTooLarge {
        /// Weight bytes of the layer.
        bytes: u64,
        /// Operations of the layer.
        ops: u64,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> LayerRange {
        text.parse().expect("a valid range")
    }

    const SMALL: LayerCost = LayerCost { bytes: 1 << 20, ops: 129 };
    const PHI_4_MINI: LayerCost = LayerCost { bytes: 100_712_448, ops: 129 };

    #[test]
    fn ranges_and_topologies_print_as_they_are_written() {
        for text in ["0..32", "31..32", "0..4294967295"] {
            assert_eq!(range(text).to_string(), text);
        }
        for text in ["auto", "32", "20+4+6+2"] {
            assert_eq!(text.parse::<Topology>().expect("a valid topology").to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in
            ["", "3", "3..", "..3", "a..b", "3..3", "4..3", "-1..2", "0...2", "0..=2", "0..4294967296"]
        {
            assert!(text.parse::<LayerRange>().is_err(), "{text}");
        }
        for text in ["", "+", "1+", "0", "2+0", "AUTO", "1,2", "-1", "99999999999"] {
            assert!(text.parse::<Topology>().is_err(), "{text}");
        }
    }

    #[test]
    fn auto_cuts_phi_4_mini_into_four_shards_of_one_shape() {
        let shards = Topology::Auto.cut(range("0..32"), PHI_4_MINI).expect("it fits");
        assert_eq!(shards, ["0..8", "8..16", "16..24", "24..32"].map(range));
    }

    #[test]
    fn a_topology_by_hand_must_cover_the_layers() {
        let topology = Topology::Layers(vec![20, 4, 6, 2]);
        let shards = topology.cut(range("0..32"), PHI_4_MINI).expect("it covers");
        assert_eq!(shards, ["0..20", "20..24", "24..30", "30..32"].map(range));
        let error = topology.cut(range("0..31"), SMALL).expect_err("one too many");
        assert!(error.to_string().contains("make the sum 31"), "{error}");
        assert!(Topology::Layers(vec![u32::MAX, u32::MAX]).cut(range("0..2"), SMALL).is_err());
    }

    #[test]
    fn a_layer_that_fits_no_shard_is_refused() {
        let huge = LayerCost { bytes: MAX_SHARD_BYTES + 1, ops: 1 };
        assert!(matches!(Topology::Auto.cut(range("0..2"), huge), Err(TopologyError::LayerTooLarge { .. })));
    }

    proptest! {
        #[test]
        fn auto_covers_evenly_within_the_limits(
            start in 0_u32..1000, count in 1_u32..500, bytes in 1_u64..MAX_SHARD_BYTES, ops in 1_u64..MAX_SHARD_OPS,
        ) {
            let layers = LayerRange::new(start, start + count).expect("not empty");
            let shards = Topology::Auto.cut(layers, LayerCost { bytes, ops }).expect("one layer fits");
            prop_assert_eq!(shards.first().expect("a shard").start(), layers.start());
            prop_assert_eq!(shards.last().expect("a shard").end(), layers.end());
            prop_assert!(shards.windows(2).all(|pair| pair[0].end() == pair[1].start()));
            let (most, least) = (shards[0].count(), shards[shards.len() - 1].count());
            prop_assert!(most - least <= 1);
            prop_assert!(u64::from(most) * bytes <= MAX_SHARD_BYTES && u64::from(most) * ops <= MAX_SHARD_OPS);
        }
    }
}
