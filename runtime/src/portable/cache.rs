//! The content of one state, with what attention and in-place updates need to know of its rows.

use half::f16;

use super::arith::half::{NAN, magnitude_bits};

/// A state's elements as rows of its last axis.
#[derive(Debug, Clone, Default)]
pub(super) struct Cache {
    elements: Vec<f16>,
    row_length: usize,
    /// The largest magnitude of each row, as bits: 0x7c00 and above means the row is not finite.
    largest: Vec<u16>,
    settled: bool,
}

impl Cache {
    /// A state of positive zeros.
    pub(super) fn zeros(shape: &[usize]) -> Self {
        let row_length = shape.last().copied().unwrap_or(1).max(1);
        let count: usize = shape.iter().product();
        Self {
            // Memory that is zero because nobody has touched it: of a long context most is never needed.
            elements: bytemuck::zeroed_vec(count),
            row_length,
            largest: vec![0; count / row_length],
            settled: true,
        }
    }

    /// Every element, last axis fastest.
    pub(super) fn elements(&self) -> &[f16] {
        &self.elements
    }

    /// Replaces every element.
    ///
    /// # Panics
    /// If there are not as many as before; callers have compared shapes.
    pub(super) fn replace(&mut self, elements: &[f16]) {
        self.edit(|into| into.copy_from_slice(elements));
    }

    /// Lets `edit` change any elements.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut [f16])) {
        edit(&mut self.elements);
        self.settled = true;
        for (row, largest) in self.elements.chunks_exact(self.row_length).zip(&mut self.largest) {
            *largest = largest_of(row);
            self.settled &= is_settled(row);
        }
    }

    /// Elements of a row.
    pub(super) fn row_length(&self) -> usize {
        self.row_length
    }

    /// The largest magnitude in each row, as bits; 0x7c00 and above: the row is not finite.
    pub(super) fn largest(&self) -> &[u16] {
        &self.largest
    }

    /// Whether multiplying every element by one and adding +0 would change no bit: there is no −0 and no NaN but the
    /// one that arithmetic writes.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Rewrites one row.
    pub(super) fn update_row(&mut self, row: usize, update: impl FnOnce(&mut [f16])) {
        let elements = &mut self.elements[row * self.row_length..(row + 1) * self.row_length];
        update(elements);
        self.largest[row] = largest_of(elements);
        self.settled &= is_settled(elements);
    }

    /// Replaces one row by finite `numbers`, and −0 by +0, so that the row is settled.
    pub(super) fn place_row(&mut self, row: usize, numbers: &[f16]) {
        let elements = &mut self.elements[row * self.row_length..(row + 1) * self.row_length];
        for (element, &number) in elements.iter_mut().zip(numbers) {
            *element = if magnitude_bits(number) == 0 { f16::ZERO } else { number };
        }
        self.largest[row] = largest_of(elements);
    }

    /// Says that every row has just been rewritten, so that what [`Cache::is_settled`] says counts from here.
    pub(super) fn begin_rewrite(&mut self) {
        self.settled = true;
    }
}

fn largest_of(row: &[f16]) -> u16 {
    // Magnitudes are below 2¹⁵ as bits, and a signed 16-bit maximum exists on every vector unit.
    row.iter().fold(0_i16, |max, &element| max.max(magnitude_bits(element) as i16)) as u16
}

fn is_settled(row: &[f16]) -> bool {
    // Without a way out of the loop, so that it vectorizes.
    !row.iter().fold(false, |unsettled, &element| {
        let is_nan = magnitude_bits(element) > INFINITY;
        unsettled | (element.to_bits() == 0x8000) | (is_nan & (element.to_bits() != NAN.to_bits()))
    })
}

/// The magnitude of an infinity, as bits.
const INFINITY: u16 = 0x7c00;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_know_their_largest_magnitude_and_whether_arithmetic_could_have_left_them() {
        let mut cache = Cache::zeros(&[1, 2, 2, 2]);
        assert!(cache.is_settled());
        let bits = [0x3c00, 0xc000, 0, 1, 0x7c00, 0, 0xfc00, 0x7e00].map(f16::from_bits);
        cache.replace(&bits);
        assert_eq!(cache.largest(), [0x4000, 1, 0x7c00, 0x7e00]);
        assert!(cache.is_settled());
        for unsettled in [0x8000, 0x7e01, 0xfe00] {
            cache.update_row(1, |row| row[0] = f16::from_bits(unsettled));
            assert!(!cache.is_settled());
            cache.begin_rewrite();
        }
        cache.place_row(2, &[f16::NEG_ZERO, f16::MIN]);
        assert_eq!(cache.elements()[4..6].iter().map(|x| x.to_bits()).collect::<Vec<_>>(), [0, 0xfbff]);
        assert_eq!((cache.largest()[2], cache.is_settled()), (0x7bff, true));
    }
}
