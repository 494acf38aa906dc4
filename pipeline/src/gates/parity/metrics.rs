//! Distances between vectors of fp16 values, in f64. `None` wherever a NaN or an infinity takes part.

use half::f16;

/// Sums over one or many pairs of vectors, from which every figure follows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Distance {
    dot: f64,
    left: f64,
    right: f64,
    squares: f64,
    largest: f64,
    count: usize,
    broken: bool,
}

impl Distance {
    /// Between two vectors of equal length.
    pub(super) fn between(a: impl IntoIterator<Item = f64>, b: impl IntoIterator<Item = f64>) -> Self {
        let mut sums = Self::default();
        for (a, b) in a.into_iter().zip(b) {
            sums.dot += a * b;
            sums.left += a * a;
            sums.right += b * b;
            sums.squares += (a - b) * (a - b);
            sums.largest = sums.largest.max((a - b).abs());
            sums.broken |= !(a.is_finite() && b.is_finite());
            sums.count += 1;
        }
        sums
    }

    /// The distance between the concatenations.
    pub(super) fn and(self, other: &Self) -> Self {
        Self {
            dot: self.dot + other.dot,
            left: self.left + other.left,
            right: self.right + other.right,
            squares: self.squares + other.squares,
            largest: self.largest.max(other.largest),
            count: self.count + other.count,
            broken: self.broken || other.broken,
        }
    }

    /// Cosine of the angle between them. Two zero vectors agree (1); a zero vector and another one do not (0).
    pub(super) fn cosine(&self) -> Option<f64> {
        let product = self.left * self.right;
        let cosine = if product > 0.0 {
            (self.dot / product.sqrt()).clamp(-1.0, 1.0)
        } else if self.left > 0.0 || self.right > 0.0 {
            0.0
        } else {
            1.0
        };
        (!self.broken).then_some(cosine)
    }

    /// Root of the mean squared difference.
    pub(super) fn rmse(&self) -> Option<f64> {
        (!self.broken).then(|| (self.squares / self.count.max(1) as f64).sqrt())
    }

    /// Largest absolute difference.
    pub(super) fn max_abs(&self) -> Option<f64> {
        (!self.broken).then_some(self.largest)
    }
}

/// The vector in f64, exactly.
pub(super) fn wide(values: &[f16]) -> impl Iterator<Item = f64> + '_ {
    values.iter().map(|value| value.to_f64())
}

/// `output − input`, exactly: f64 holds every difference of two fp16 values.
pub(super) fn update<'a>(output: &'a [f16], input: &'a [f16]) -> impl Iterator<Item = f64> + 'a {
    wide(output).zip(wide(input)).map(|(output, input)| output - input)
}

/// Whether every value is a number.
pub(super) fn finite(values: &[f16]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// Whether the bits are equal; +0 and −0 are not.
pub(super) fn same_bits(a: &[f16], b: &[f16]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cosine(a: &[f64], b: &[f64]) -> Option<f64> {
        Distance::between(a.iter().copied(), b.iter().copied()).cosine()
    }

    #[test]
    fn cosines_of_zero_and_of_broken_vectors_are_defined() {
        assert_eq!(cosine(&[0.0, 0.0], &[0.0, 0.0]), Some(1.0));
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), Some(0.0));
        assert_eq!(cosine(&[], &[]), Some(1.0));
        for broken in [f64::NAN, f64::INFINITY] {
            assert_eq!(cosine(&[1.0, broken], &[1.0, 1.0]), None);
            let distance = Distance::between([1.0], [broken]);
            assert_eq!((distance.rmse(), distance.max_abs()), (None, None));
        }
    }

    #[test]
    fn figures_of_a_known_pair() {
        let distance = Distance::between([3.0, 4.0], [4.0, 3.0]);
        assert_eq!(distance.cosine(), Some(24.0 / 25.0));
        assert_eq!(distance.rmse(), Some(1.0));
        assert_eq!(distance.max_abs(), Some(1.0));
        assert_eq!(cosine(&[1.0, 0.0], &[-2.0, 0.0]), Some(-1.0));
    }

    proptest! {
        #[test]
        fn a_vector_is_parallel_to_itself_exactly(values in prop::collection::vec(any::<u16>(), 1..50)) {
            let values: Vec<f16> = values.into_iter().map(f16::from_bits).filter(|value| value.is_finite()).collect();
            prop_assert_eq!(Distance::between(wide(&values), wide(&values)).cosine(), Some(1.0));
        }

        #[test]
        fn figures_of_parts_make_the_figure_of_the_whole(
            a in prop::collection::vec(-1e3..1e3f64, 8), b in prop::collection::vec(-1e3..1e3f64, 8), cut in 0usize..8,
        ) {
            let part = |range: std::ops::Range<usize>| {
                Distance::between(a[range.clone()].iter().copied(), b[range].iter().copied())
            };
            let (whole, parts) = (part(0..8), part(0..cut).and(&part(cut..8)));
            for (whole, parts) in [
                (whole.cosine(), parts.cosine()), (whole.rmse(), parts.rmse()), (whole.max_abs(), parts.max_abs()),
            ] {
                prop_assert!((whole.unwrap() - parts.unwrap()).abs() < 1e-9 * whole.unwrap().abs().max(1.0));
            }
        }
    }
}
