use half::f16;
use proptest::prelude::*;

use super::*;
use crate::portable::arith::half::round;

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
        columns.load(&vec![f16::from_f32(-0.3); 9 * 700], 9);
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

#[test]
fn the_longest_column_of_the_largest_values_does_not_overflow() {
    let length = fixed::MAX_COLUMN;
    for (w, x) in [(-128i8, -65504.0f32), (-128, 65504.0), (127, 65504.0)] {
        let weights = vec![w; 2 * length];
        let rows = Rows { weights: &weights, scales: &[f16::from_bits(1)], bias: None };
        check(rows, &vec![f16::from_f32(x); length], 1).unwrap();
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
