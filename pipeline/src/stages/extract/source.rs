//! Rows of a model file by name, and the order in which rotated ones stand.

use std::ops::Range;

use crate::contract::Part;

/// Rows of one tensor of the model file.
pub(super) struct Source {
    pub(super) tensor: String,
    pub(super) rows: Range<u64>,
    pub(super) permuted: bool,
}

impl Source {
    /// Rows as they stand in the file.
    pub(super) fn new(tensor: &str, rows: Range<u64>) -> Self {
        Self { tensor: tensor.to_owned(), rows, permuted: false }
    }
}

impl From<Part> for Source {
    fn from(part: Part) -> Self {
        Self { tensor: part.tensor, rows: 0..part.rows, permuted: part.permuted }
    }
}

/// The two orders of a head's rotated rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotary {
    pub(super) head_dim: u64,
    pub(super) width: u64,
}

impl Rotary {
    /// Where in a tensor in NORM order (pairs `2i`, `2i + 1`) the row is that stands at `row` in NEOX order (pairs `i`,
    /// `i + n/2`). Rows that are not rotated stay.
    pub(super) fn norm_row(&self, row: u64) -> u64 {
        let within = row % self.head_dim;
        if within >= self.width {
            return row;
        }
        let half = self.width / 2;
        row - within + 2 * (within % half) + within / half
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_of_neighbours_become_pairs_of_halves() {
        let rotary = Rotary { head_dim: 8, width: 6 };
        let rows: Vec<u64> = (0..16).map(|row| rotary.norm_row(row)).collect();
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 7, 8, 10, 12, 9, 11, 13, 14, 15]);
    }

    proptest! {
        /// The rule as the rotation needs it: what stood at 2i and 2i + 1 stands at i and i + n/2.
        #[test]
        fn every_pair_stays_a_pair(head in 0_u64..4, half in 1_u64..9, rest in 0_u64..5) {
            let rotary = Rotary { head_dim: 2 * half + rest, width: 2 * half };
            let first = head * rotary.head_dim;
            for i in 0..half {
                prop_assert_eq!(rotary.norm_row(first + i), first + 2 * i);
                prop_assert_eq!(rotary.norm_row(first + half + i), first + 2 * i + 1);
            }
            for row in 2 * half..rotary.head_dim {
                prop_assert_eq!(rotary.norm_row(first + row), first + row);
            }
        }
    }
}
