//! How a model's layers, and its LM head, are cut into shards.
//!
//! A shard is one compiled program. The Neural Engine refuses programs that are too large, silently, by running them
//! on the CPU, so the cut is decided by size, not by taste.

mod head;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

pub use head::{MAX_HEAD_ROWS, cut_head};

/// The largest compiled shard that macOS 27 was seen to place on the Neural Engine is 1,072,681,458 bytes; one of
/// 1,074,770,418 bytes was not (release notes of eeANE 1.6.1). macOS 26 and older go to about 2 GiB. The smaller
/// limit is right for both.
pub const MAX_SHARD_BYTES: u64 = 1 << 30;

/// Loading failed with error −14 somewhere between 3,164 and 3,284 operations in one program (`mil_spec`), so no more
/// than the count that is known to load.
pub const MAX_SHARD_OPS: u64 = 3_164;

/// Operations of one layer of a graph, at most: 126 where there are 8 KV heads, 94 where there are 4. Held against
/// graphs in `tests/graph_stage.rs`.
pub fn layer_ops(kv_heads: u32) -> u64 {
    70 + 8 * u64::from(kv_heads)
}

/// Operations of the output norm behind the last layer. Held against graphs in `tests/graph_stage.rs`.
pub const OUTPUT_NORM_OPS: u64 = 13;

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

/// What one layer, or what follows the last one, costs a shard; [`Topology::Auto`] decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Bytes of weights in the compiled program.
    pub bytes: u64,
    /// Operations in the compiled program.
    pub ops: u64,
}

impl Topology {
    /// Cuts `layers`, of which each costs `layer`, into consecutive shards that cover them exactly. The last of them also
    /// carries `ending`: the output norm, or nothing.
    pub fn cut(
        &self,
        layers: LayerRange,
        layer: Cost,
        ending: Cost,
    ) -> Result<Vec<LayerRange>, TopologyError> {
        let counts = match self {
            Self::Layers(counts) => {
                let covered: u64 = counts.iter().map(|&count| u64::from(count)).sum();
                if covered != u64::from(layers.count()) {
                    return Err(TopologyError::DoesNotCover { topology: self.to_string(), covered, layers });
                }
                counts.clone()
            }
            Self::Auto => auto_counts(layers.count(), layer, ending)?,
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

/// The fewest shards, as even as possible, of which the last, which is the shortest, has room for `ending`.
fn auto_counts(layers: u32, layer: Cost, ending: Cost) -> Result<Vec<u32>, TopologyError> {
    let (most, most_at_end) = (most_layers(layer, Cost::default())?, most_layers(layer, ending)?);
    let mut parts = layers.div_ceil(most);
    // Single layers fit, so this ends at as many parts as layers at the latest.
    while parts < layers && layers / parts > most_at_end {
        parts += 1;
    }
    Ok(even_parts(layers, parts))
}

/// How many layers fit one shard beside `ending`; at least 1.
fn most_layers(layer: Cost, ending: Cost) -> Result<u32, TopologyError> {
    let by_bytes = MAX_SHARD_BYTES.saturating_sub(ending.bytes) / layer.bytes.max(1);
    let by_ops = MAX_SHARD_OPS.saturating_sub(ending.ops) / layer.ops.max(1);
    match u32::try_from(by_bytes.min(by_ops)).unwrap_or(u32::MAX) {
        0 => Err(TopologyError::LayerTooLarge {
            bytes: layer.bytes.saturating_add(ending.bytes),
            ops: layer.ops.saturating_add(ending.ops),
        }),
        most => Ok(most),
    }
}

/// The fewest parts of at most `most`.
fn even_counts(total: u32, most: u32) -> Vec<u32> {
    even_parts(total, total.div_ceil(most))
}

/// So many parts, differing by at most one, larger parts first.
fn even_parts(total: u32, parts: u32) -> Vec<u32> {
    let (each, longer) = (total / parts.max(1), total % parts.max(1));
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
    /// One layer alone, with the output norm if it is the last, breaks a limit.
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
    /// One row of the LM head alone breaks a limit.
    #[error(
        "one row of the LM head alone has {bytes} bytes of weights; a shard holds at most {} on the Neural Engine, so \
         no such model can be built; check its embedding_length",
        MAX_SHARD_BYTES
    )]
    RowTooLarge {
        /// Weight bytes of the row.
        bytes: u64,
    },
}
