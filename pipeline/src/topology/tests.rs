//! Cuts of layers.

use proptest::prelude::*;

use super::*;

fn range(text: &str) -> LayerRange {
    text.parse().expect("a valid range")
}

const NOTHING: Cost = Cost { bytes: 0, ops: 0 };
const SMALL: Cost = Cost { bytes: 1 << 20, ops: 129 };
const PHI_4_MINI: Cost = Cost { bytes: 100_712_448, ops: 129 };

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
    for text in ["", "3", "3..", "..3", "a..b", "3..3", "4..3", "-1..2", "0...2", "0..=2", "0..4294967296"] {
        assert!(text.parse::<LayerRange>().is_err(), "{text}");
    }
    for text in ["", "+", "1+", "0", "2+0", "AUTO", "1,2", "-1", "99999999999"] {
        assert!(text.parse::<Topology>().is_err(), "{text}");
    }
}

#[test]
fn auto_cuts_phi_4_mini_into_four_shards_of_one_shape() {
    let shards = Topology::Auto.cut(range("0..32"), PHI_4_MINI, NOTHING).expect("it fits");
    assert_eq!(shards, ["0..8", "8..16", "16..24", "24..32"].map(range));
}

#[test]
fn a_topology_by_hand_must_cover_the_layers() {
    let topology = Topology::Layers(vec![20, 4, 6, 2]);
    let shards = topology.cut(range("0..32"), PHI_4_MINI, NOTHING).expect("it covers");
    assert_eq!(shards, ["0..20", "20..24", "24..30", "30..32"].map(range));
    let error = topology.cut(range("0..31"), SMALL, NOTHING).expect_err("one too many");
    assert!(error.to_string().contains("make the sum 31"), "{error}");
    assert!(Topology::Layers(vec![u32::MAX, u32::MAX]).cut(range("0..2"), SMALL, NOTHING).is_err());
}

#[test]
fn a_layer_that_fits_no_shard_is_refused() {
    let huge = Cost { bytes: MAX_SHARD_BYTES + 1, ops: 1 };
    assert!(matches!(
        Topology::Auto.cut(range("0..2"), huge, NOTHING),
        Err(TopologyError::LayerTooLarge { .. })
    ));
}

#[test]
fn the_last_shard_has_room_for_what_follows_the_last_layer() {
    let norm = Cost { bytes: 2 * 3072, ops: OUTPUT_NORM_OPS };
    let lengths = |count, layer, ending| -> Vec<u32> {
        let layers = LayerRange::new(0, count).expect("not empty");
        let shards = Topology::Auto.cut(layers, layer, ending).expect("it fits");
        shards.into_iter().map(LayerRange::count).collect()
    };
    // 791 operations: four layers fill a shard to the last one.
    let quarter = Cost { bytes: 1, ops: MAX_SHARD_OPS / 4 };
    for (count, layer, ending, expected) in [
        (32, PHI_4_MINI, norm, vec![8, 8, 8, 8]),
        (4, quarter, NOTHING, vec![4]),
        (4, quarter, norm, vec![2, 2]),
        (8, quarter, norm, vec![3, 3, 2]),
        (7, quarter, norm, vec![4, 3]),
        (2, Cost { bytes: MAX_SHARD_BYTES / 2, ops: 1 }, norm, vec![1, 1]),
    ] {
        assert_eq!(lengths(count, layer, ending), expected, "{count} layers of {layer:?}, then {ending:?}");
    }
    let full = Cost { bytes: MAX_SHARD_BYTES, ops: 1 };
    let error = Topology::Auto.cut(range("0..2"), full, norm).expect_err("the norm does not fit");
    assert!(matches!(error, TopologyError::LayerTooLarge { .. }), "{error}");
}

proptest! {
    #[test]
    fn auto_covers_evenly_within_the_limits(
        start in 0_u32..1000, count in 1_u32..500, bytes in 1_u64..MAX_SHARD_BYTES / 2, ops in 1_u64..MAX_SHARD_OPS / 2,
        ending_bytes in 0_u64..MAX_SHARD_BYTES / 2, ending_ops in 0_u64..MAX_SHARD_OPS / 2,
    ) {
        let layers = LayerRange::new(start, start + count).expect("not empty");
        let ending = Cost { bytes: ending_bytes, ops: ending_ops };
        let shards = Topology::Auto.cut(layers, Cost { bytes, ops }, ending).expect("one layer fits");
        prop_assert_eq!(shards.first().expect("a shard").start(), layers.start());
        prop_assert_eq!(shards.last().expect("a shard").end(), layers.end());
        prop_assert!(shards.windows(2).all(|pair| pair[0].end() == pair[1].start()));
        let (most, least) = (u64::from(shards[0].count()), u64::from(shards[shards.len() - 1].count()));
        prop_assert!(most - least <= 1);
        prop_assert!(most * bytes <= MAX_SHARD_BYTES && most * ops <= MAX_SHARD_OPS);
        prop_assert!(least * bytes + ending_bytes <= MAX_SHARD_BYTES && least * ops + ending_ops <= MAX_SHARD_OPS);
    }
}
