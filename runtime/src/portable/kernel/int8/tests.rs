use half::f16;
use proptest::prelude::*;

use super::*;
use crate::portable::arith::half::round;
use crate::portable::fixture::random::Random;

/// Every result by the definition, one scalar at a time.
fn twin(rows: Rows<'_>, x: &[f16], count: usize) -> Vec<f16> {
    let length = x.len() / count;
    let columns: Vec<Vec<f16>> =
        (0..count).map(|t| x.iter().skip(t).step_by(count).copied().collect()).collect();
    let mut out = Vec::new();
    for (n, row) in rows.weights.chunks_exact(length).enumerate() {
        for column in &columns {
            let scale = if rows.scales.len() == 1 { rows.scales[0] } else { rows.scales[n] };
            let product = fixed::product(row, scale, column);
            out.push(round(rows.bias.map_or(product, |bias| product + bias[n].to_f32())));
        }
    }
    out
}

fn bits(values: &[f16]) -> Vec<u16> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn check(rows: Rows<'_>, x: &[f16], count: usize) -> Result<(), TestCaseError> {
    let expected = bits(&twin(rows, x, count));
    for isa in Isa::available() {
        let mut columns = Columns::new(isa);
        // Twice, after something larger: nothing may be left over from the columns before.
        let larger: Vec<f16> = (0..40 * 1100).map(|index| f16::from_f32(index as f32 * -0.3)).collect();
        columns.load(&larger, 40);
        columns.load(x, count);
        let mut out = vec![f16::NAN; expected.len()];
        columns.multiply(rows, &mut out);
        prop_assert_eq!(&expected, &bits(&out), "{:?}", isa);
    }
    Ok(())
}

/// Columns as decoding meets them and as nobody wants to: each column of a case is drawn from one of these.
fn element(kind: u8) -> BoxedStrategy<f16> {
    let from = |range: std::ops::Range<u16>| {
        (range, any::<bool>()).prop_map(|(bits, sign)| f16::from_bits(bits | u16::from(sign) << 15)).boxed()
    };
    match kind {
        0 => from(0x3400..0x3e00),
        1 => prop_oneof![50 => from(0x3000..0x3c00), 1 => from(0x5400..0x5c00)].boxed(),
        2 => from(0..0x0400),
        3 => from(0..0x7c00),
        4 => from(0x7bff..0x7c00),
        5 => from(0..1),
        6 => prop_oneof![100 => from(0x2400..0x3800), 1 => from(0x7c00..0x7e01)].boxed(),
        _ => prop_oneof![from(0..1), from(0x0001..0x0002), from(0x7bff..0x7c00)].boxed(),
    }
}

prop_compose! {
    fn case()(length in 1usize..300, count in 1usize..10, rows in 1usize..7)(
        columns in prop::collection::vec((0u8..8).prop_flat_map(move |kind| prop::collection::vec(element(kind), length)), count),
        weights in prop_oneof![
            prop::collection::vec(any::<i8>(), rows * length),
            prop::collection::vec(prop_oneof![Just(-128i8), Just(127)], rows * length),
            Just(vec![-128; rows * length]),
        ],
        scales in prop_oneof![
            prop::collection::vec((0x0800u16..0x2c00).prop_map(f16::from_bits), rows),
            prop::collection::vec(any::<u16>().prop_map(f16::from_bits), 1),
        ],
        bias in prop::option::of(prop::collection::vec(any::<u16>().prop_map(f16::from_bits), rows)),
    ) -> (Vec<Vec<f16>>, Vec<i8>, Vec<f16>, Option<Vec<f16>>) {
        (columns, weights, scales, bias)
    }
}

proptest! {
    #[test]
    fn every_instruction_set_gives_the_bits_of_the_definition((columns, weights, scales, bias) in case()) {
        let count = columns.len();
        let x: Vec<f16> = (0..columns[0].len()).flat_map(|k| columns.iter().map(move |column| column[k])).collect();
        check(Rows { weights: &weights, scales: &scales, bias: bias.as_deref() }, &x, count)?;
    }

    #[test]
    fn a_column_does_not_notice_its_neighbours((columns, weights, scales, bias) in case()) {
        let rows = Rows { weights: &weights, scales: &scales, bias: bias.as_deref() };
        let count = columns.len();
        let x: Vec<f16> = (0..columns[0].len()).flat_map(|k| columns.iter().map(move |column| column[k])).collect();
        for isa in Isa::available() {
            let mut wide = Columns::new(isa);
            wide.load(&x, count);
            let mut together = vec![f16::ZERO; weights.len() / columns[0].len() * count];
            wide.multiply(rows, &mut together);
            for (t, column) in columns.iter().enumerate() {
                let mut narrow = Columns::new(isa);
                narrow.load(column, 1);
                let mut alone = vec![f16::ZERO; weights.len() / column.len()];
                narrow.multiply(rows, &mut alone);
                let slot: Vec<f16> = together.iter().skip(t).step_by(count).copied().collect();
                prop_assert_eq!(bits(&alone), bits(&slot));
            }
        }
    }
}

/// Lengths about the borders of what is multiplied together: a register, a step, and the stretches of four, three, two
/// columns and one.
fn border() -> impl Strategy<Value = usize> {
    prop_oneof![Just(16usize), Just(64), Just(1024), Just(1344), Just(2048), Just(4096)]
        .prop_flat_map(|border| border - 2..border + 3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Columns that repeat earlier ones, next to each other and apart, in every number that a pass or a prompt has.
    #[test]
    fn lengths_and_numbers_of_columns_have_no_borders(
        length in border(),
        count in prop_oneof![1usize..=9, Just(16), Just(17), Just(31), Just(32), Just(33)],
        rows in prop_oneof![1usize..=9, 63usize..=65],
        distinct in 1usize..=40,
        kinds in prop::collection::vec(0u8..8, 40),
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let kinds = kinds.into_iter().cycle();
        let columns: Vec<Vec<f16>> =
            kinds.take(distinct).map(|kind| random.halves(length, |random| drawn(kind, random))).collect();
        let order: Vec<usize> = (0..count).map(|slot| (slot + random.below(2)) % distinct).collect();
        let x: Vec<f16> = (0..length).flat_map(|k| order.iter().map(|&column| columns[column][k]).collect::<Vec<_>>()).collect();
        let weights: Vec<i8> = (0..rows * length).map(|_| if random.below(8) == 0 { -128 } else { random.bits() as i8 }).collect();
        let scales = random.halves(rows, |random| f16::from_f32(random.unit() * 0.01));
        check(Rows { weights: &weights, scales: &scales, bias: None }, &x, count)?;
    }
}

/// An element of a column of one of these kinds: ordinary, with outliers, subnormal, of any exponent, the largest, zero,
/// not always finite, the smallest beside the largest.
fn drawn(kind: u8, random: &mut Random) -> f16 {
    let sign = (random.below(2) as u16) << 15;
    let mut from =
        |range: Range<u16>| f16::from_bits((range.start + random.below(range.len()) as u16) | sign);
    match kind {
        0 => from(0x3400..0x3e00),
        1 => from(if sign == 0 { 0x3000..0x3c00 } else { 0x2000..0x5c00 }),
        2 => from(0..0x0400),
        3 => from(0..0x7c00),
        4 => from(0x7bff..0x7c00),
        5 => from(0..1),
        6 => {
            let x = from(0x2400..0x3800);
            if random.below(1000) == 0 { f16::INFINITY } else { x }
        }
        _ => from(if sign == 0 { 0..2 } else { 0x7bff..0x7c00 }),
    }
}

#[test]
fn repeated_columns_are_results_of_their_own() {
    let mut random = Random(7);
    let (length, rows) = (200, 70);
    let weights: Vec<i8> = (0..rows * length).map(|_| random.bits() as i8).collect();
    let scales = random.halves(rows, |random| f16::from_f32(random.unit()));
    let rows = Rows { weights: &weights, scales: &scales, bias: None };
    let [a, b, c] = [(); 3].map(|()| random.halves(length, |random| f16::from_f32(random.normal())));
    // Zeros of the other sign are equal numbers, but other bits.
    let (zeros, negative) = (vec![f16::ZERO; length], vec![f16::NEG_ZERO; length]);
    for order in [
        vec![&a, &a, &a, &a],
        vec![&a, &b, &b, &b],
        vec![&a, &a, &b, &c, &c, &a],
        vec![&zeros, &negative, &negative, &a, &a],
        vec![&a, &b, &c, &a, &a, &b, &c, &zeros, &zeros, &a],
    ] {
        let x: Vec<f16> = (0..length).flat_map(|k| order.iter().map(move |column| column[k])).collect();
        check(rows, &x, order.len()).unwrap();
    }
}

#[test]
fn fewer_distinct_columns_need_no_more_room_than_all() {
    for isa in Isa::available() {
        let mut columns = Columns::new(isa);
        columns.load(&[f16::ONE; 4 * 100], 4);
        assert_eq!((columns.count(), columns.slots.len(), columns.slots[0].clone()), (4, 1, 0..4));
        let room = |columns: &Columns| {
            (columns.slots.capacity(), columns.scalings.capacity(), columns.limbs.capacity())
        };
        let before = room(&columns);
        let different: Vec<f16> = (0..4 * 100).map(|index| f16::from_f32(index as f32)).collect();
        columns.load(&different, 4);
        assert_eq!((columns.slots.len(), room(&columns)), (4, before), "{isa:?}");
    }
}

#[test]
fn the_longest_columns_of_the_largest_values_do_not_overflow() {
    let length = fixed::MAX_COLUMN;
    for (w, x) in [(-128i8, -65504.0f32), (-128, 65504.0), (127, 65504.0)] {
        let weights = vec![w; 2 * length];
        let rows = Rows { weights: &weights, scales: &[f16::from_bits(1)], bias: None };
        for count in 1..=5 {
            let mut columns = vec![f16::from_f32(x); length * count];
            // The last elements differ, or all would be one column.
            for column in 1..count {
                columns[(length - column) * count + column] = f16::ZERO;
            }
            check(rows, &columns, count).unwrap();
        }
    }
}

#[test]
fn a_twin_that_is_off_by_one_would_be_noticed() {
    let weights = vec![1i8; 64];
    let mut x = vec![f16::ZERO; 64];
    x[0] = f16::from_bits(0x6800);
    // 2048 + 1·2⁻¹·… : the second element decides the rounding of the first.
    x[1] = f16::ONE;
    let rows = Rows { weights: &weights, scales: &[f16::ONE], bias: None };
    let exact = twin(rows, &x, 1);
    x[1] = f16::from_bits(0x3c01);
    assert_ne!(bits(&exact), bits(&twin(rows, &x, 1)));
}
