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
        visibility.scan(Isa::best(), &self.mask);
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

/// Heads of whole registers have kernels of their own: every number of queries and of columns that registers are filled with, more
/// blocks than one tile has, and a last block that is cut short.
#[test]
fn every_instruction_set_gives_the_same_bits() {
    for (width, share, slots, context, position) in [
        (16, 1, 1, 300, 260),
        (32, 2, 1, 300, 290),
        (48, 3, 2, 333, 331),
        (128, 3, 4, 160, 100),
        (64, 7, 1, 161, 160),
        (24, 2, 2, 90, 70),
        (8, 2, 4, 256, 200),
        (8, 1, 1, 33, 32),
        (40, 1, 4, 300, 280),
        (12, 2, 4, 90, 80),
        (16, 1, 3, 21, 18),
    ] {
        let mut random = Random(width as u64);
        let mut normal = |count: usize| random.halves(count, |random| f16::from_f32(random.normal()));
        let (queries, mut keys) = (normal(share * slots * width), normal(context * width));
        let mut values = normal(context * width);
        let seen = |index: usize| index % context <= (position + index / context).min(context - 1);
        let mask = |index| if seen(index) { f16::ZERO } else { f16::from_f32(-40000.0) };
        let mask: Vec<f16> = (0..slots * context).map(mask).collect();
        for (spoiled, scale) in [(false, None), (false, Some(f16::from_f32(0.3))), (true, None)] {
            if spoiled {
                keys[5 * width + 3] = f16::NAN;
                values[7 * width] = f16::NEG_INFINITY;
            }
            let largest = |rows: &[f16]| -> Vec<u16> {
                rows.chunks(width).map(|row| row.iter().map(|&x| magnitude_bits(x)).max().unwrap()).collect()
            };
            let (of_keys, of_values) = (largest(&keys), largest(&values));
            let run = |isa: Isa| {
                let mut visibility = Visibility::with_capacity(slots, context);
                visibility.scan(isa, &mask);
                let head = Head {
                    queries: &queries,
                    keys: Rows { elements: &keys, largest: &of_keys },
                    values: Rows { elements: &values, largest: &of_values },
                    mask: &mask,
                    visibility: &visibility,
                    scale,
                    width,
                };
                let mut scratch = Scratch::with_capacity(share * slots, width, context);
                let mut out = vec![f16::ONE; share * slots * width];
                // What is left in the scratch from a run before must not matter.
                for _ in 0..2 {
                    attend(isa, head, &mut out, &mut scratch);
                }
                out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            let expected = run(Isa::BASELINE);
            for isa in Isa::available() {
                assert_eq!(run(isa), expected, "{isa:?} {width} {share} {slots} {context} {spoiled}");
            }
        }
    }
}
