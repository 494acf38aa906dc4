use half::f16;

use super::*;
use crate::portable::arith::half::magnitude_bits;
use crate::portable::fixture::random::Random;

const WIDTH: usize = 10;
const CONTEXT: usize = 100;
const SLOTS: usize = 3;
const SHARE: usize = 2;

struct Tensors {
    queries: Vec<f16>,
    keys: Vec<f16>,
    values: Vec<f16>,
    mask: Vec<f16>,
}

impl Tensors {
    /// Slot i sees positions up to `position + i`.
    fn causal(position: usize, hidden: f32) -> Self {
        let mut random = Random(1);
        let mut normal = |count: usize| random.halves(count, |random| f16::from_f32(random.normal()));
        let (queries, keys) = (normal(SHARE * SLOTS * WIDTH), normal(CONTEXT * WIDTH));
        let values = normal(CONTEXT * WIDTH);
        let seen = |index: usize| index % CONTEXT <= position + index / CONTEXT;
        let mask = |index| if seen(index) { f16::ZERO } else { f16::from_f32(hidden) };
        Self { queries, keys, values, mask: (0..SLOTS * CONTEXT).map(mask).collect() }
    }

    /// The blocks that are visited.
    fn visited(&self) -> Vec<u32> {
        let largest = |rows: &[f16]| -> Vec<u16> {
            rows.chunks(WIDTH).map(|row| row.iter().map(|&x| magnitude_bits(x)).max().unwrap()).collect()
        };
        let (keys, values) = (largest(&self.keys), largest(&self.values));
        let mut visibility = Visibility::with_capacity(SLOTS, CONTEXT);
        visibility.scan(&self.mask);
        let head = Head {
            queries: &self.queries,
            keys: Rows { elements: &self.keys, largest: &keys },
            values: Rows { elements: &self.values, largest: &values },
            mask: &self.mask,
            visibility: &visibility,
            scale: None,
            width: WIDTH,
        };
        let mut scratch = Scratch::with_capacity(SHARE * SLOTS, WIDTH, CONTEXT);
        attend(Isa::best(), head, &mut [f16::ZERO; SHARE * SLOTS * WIDTH], &mut scratch);
        scratch.blocks
    }
}

const ALL: [u32; 7] = [0, 1, 2, 3, 4, 5, 6];

#[test]
fn only_visible_blocks_are_visited() {
    for (position, expected) in
        [(0, &ALL[..1]), (13, &ALL[..1]), (14, &ALL[..2]), (50, &ALL[..4]), (97, &ALL)]
    {
        for hidden in [-40000.0, f32::NEG_INFINITY] {
            assert_eq!(Tensors::causal(position, hidden).visited(), expected, "{position} {hidden}");
        }
    }
}

#[test]
fn a_block_is_visited_where_leaving_it_out_is_not_proven() {
    let changed = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = Tensors::causal(5, -40000.0);
        change(&mut tensors);
        tensors.visited()
    };
    assert_eq!(changed(&|_| ()), [0]);
    // A value or a key that is no number, or a key that could outweigh the mask, in block 3.
    assert_eq!(changed(&|tensors| tensors.values[50 * WIDTH] = f16::INFINITY), [0, 3]);
    assert_eq!(changed(&|tensors| tensors.keys[50 * WIDTH] = f16::MAX), [0, 3]);
    assert_eq!(changed(&|tensors| tensors.keys[50 * WIDTH] = f16::NAN), [0, 3]);
    // A mask that hides too little, that is no number, or that hides everything.
    assert_eq!(changed(&|tensors| tensors.mask[CONTEXT + 50] = f16::from_f32(-100.0)), [0, 3]);
    assert_eq!(changed(&|tensors| tensors.mask[50] = f16::NAN), ALL);
    assert_eq!(changed(&|tensors| tensors.mask[..CONTEXT].fill(f16::from_f32(-40000.0))), ALL);
    // A query whose scores have no bound.
    assert_eq!(changed(&|tensors| tensors.queries[0] = f16::NAN), ALL);
}
