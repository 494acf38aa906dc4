//! The largest element of each column, and where it first stands.

use half::f16;

use super::Isa;
use super::isa::for_each_isa;
use crate::portable::arith::half::{NAN_ORDER, order};

/// Elements that are compared at the same time.
const LANES: usize = 64;

/// Rows whose largest elements are found before it is asked in which of them they are.
const ROWS: usize = 1024;

/// The largest element of a column so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Largest {
    /// Its place in the order of numbers.
    place: i16,
    /// Its row, counted through all parts; nothing if there was no number.
    row: Option<usize>,
}

impl Largest {
    /// Of a column that has nothing yet.
    pub const NONE: Self = Self { place: NAN_ORDER, row: None };

    /// The first row that has it. Nothing if the column has no number.
    pub fn row(self) -> Option<usize> {
        self.row
    }
}

/// Looks through `part` `[rows, columns]`, last axis fastest, whose first row is number `first`, for elements larger than those of
/// `largest`, one for each column. ±0 are equal, and NaN is never larger.
pub fn argmax(isa: Isa, part: &[f16], first: usize, largest: &mut [Largest]) {
    let columns = largest.len().max(1);
    for (number, rows) in part.chunks(ROWS * columns).enumerate() {
        let row = first + number * ROWS;
        if LANES.is_multiple_of(columns) {
            let mut lanes = [NAN_ORDER; LANES];
            lanes_of(isa, rows, &mut lanes);
            for (column, largest) in largest.iter_mut().enumerate() {
                let place = lanes.iter().skip(column).step_by(columns).copied().max().unwrap_or(NAN_ORDER);
                if place > largest.place {
                    let found =
                        rows.iter().skip(column).step_by(columns).position(|&value| order(value) == place);
                    *largest = Largest { place, row: found.map(|found| row + found) };
                }
            }
        } else {
            for (index, &value) in rows.iter().enumerate() {
                let largest = &mut largest[index % columns];
                if order(value) > largest.place {
                    *largest = Largest { place: order(value), row: Some(row + index / columns) };
                }
            }
        }
    }
}

for_each_isa! {
    /// The places of the largest of every sixty-fourth element.
    fn lanes_of(values: &[f16], lanes: &mut [i16; LANES]) {
        let mut largest = *lanes;
        let (whole, rest) = values.as_chunks::<LANES>();
        for values in whole {
            for lane in 0..LANES {
                largest[lane] = largest[lane].max(order(values[lane]));
            }
        }
        for (lane, &value) in rest.iter().enumerate() {
            largest[lane] = largest[lane].max(order(value));
        }
        *lanes = largest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the definition, one column at a time.
    fn expected(values: &[f16], columns: usize, column: usize) -> Option<usize> {
        let mut best: Option<(usize, f16)> = None;
        for (row, &value) in values.iter().skip(column).step_by(columns).enumerate() {
            if !value.is_nan() && best.is_none_or(|(_, best)| value > best) {
                best = Some((row, value));
            }
        }
        best.map(|(row, _)| row)
    }

    proptest! {
        #[test]
        fn the_first_of_the_largest_is_found_in_every_column(
            columns in 1usize..9, rows in 0usize..3000, cut in 0usize..3000,
            bits in prop::collection::vec(any::<u16>(), 97), few in any::<bool>(),
        ) {
            // Few different values make ties; any bits make NaN, infinities and both zeros.
            let element = |index: usize| {
                let bits = bits[(index * 31 + index / 97) % bits.len()];
                f16::from_bits(if few { [0, 0x8000, 0xbc00, 0x7e00][bits as usize % 4] } else { bits })
            };
            let values: Vec<f16> = (0..rows * columns).map(element).collect();
            let cut = cut.min(rows);
            for isa in Isa::available() {
                let mut largest = vec![Largest::NONE; columns];
                argmax(isa, &values[..cut * columns], 0, &mut largest);
                argmax(isa, &values[cut * columns..], cut, &mut largest);
                for (column, largest) in largest.iter().enumerate() {
                    prop_assert_eq!(largest.row(), expected(&values, columns, column), "{:?} {}", isa, column);
                }
            }
        }
    }
}
