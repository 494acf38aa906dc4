//! Arithmetic on shapes.

/// The most elements one tensor may have: far above any shard's, far below what overflows.
pub const MAX_ELEMENTS: usize = 1 << 30;

/// The number of elements of `shape`, if it is at most [`MAX_ELEMENTS`].
pub fn count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |product, &extent| product.checked_mul(extent))
        .filter(|&n| n <= MAX_ELEMENTS)
}

/// Elements between neighbours along each axis of a dense tensor.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The shape of an elementwise result: shapes are aligned at their last axes, and an extent of 1 repeats.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    (0..rank)
        .map(|axis| match (extent(a, rank, axis), extent(b, rank, axis)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Strides with which a tensor of shape `from` is read as one of shape `to`, which it broadcasts to: 0 where it repeats.
pub fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(from);
    (0..to.len())
        .map(|axis| {
            let missing = to.len().saturating_sub(from.len());
            if axis < missing || from[axis - missing] == 1 { 0 } else { own[axis - missing] }
        })
        .collect()
}

/// `axis` counted from the front; negative ones count from the back.
pub fn axis(axis: i64, rank: usize) -> Option<usize> {
    let rank = rank as i64;
    (-rank..rank).contains(&axis).then(|| axis.rem_euclid(rank) as usize)
}

fn extent(shape: &[usize], rank: usize, axis: usize) -> usize {
    let missing = rank - shape.len();
    if axis < missing { 1 } else { shape[axis - missing] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_from_their_last_axis() {
        type Row = (&'static [usize], &'static [usize], Option<&'static [usize]>);
        let table: [Row; 6] = [
            (&[2, 3], &[3], Some(&[2, 3])),
            (&[2, 1, 4], &[3, 1], Some(&[2, 3, 4])),
            (&[], &[5], Some(&[5])),
            (&[1], &[0], Some(&[0])),
            (&[2], &[3], None),
            (&[2, 3], &[2], None),
        ];
        for (a, b, expected) in table {
            assert_eq!(broadcast(a, b).as_deref(), expected, "{a:?} {b:?}");
            assert_eq!(broadcast(b, a).as_deref(), expected, "{b:?} {a:?}");
        }
        assert_eq!(broadcast_strides(&[3, 1], &[2, 3, 4]), [0, 1, 0]);
    }

    #[test]
    fn counts_do_not_overflow() {
        assert_eq!(count(&[]), Some(1));
        assert_eq!(count(&[4, 0]), Some(0));
        assert_eq!(count(&[usize::MAX, 2]), None);
        assert_eq!(count(&[1 << 20, 1 << 11]), None);
    }

    #[test]
    fn axes_count_from_either_end() {
        assert_eq!(axis(-1, 4), Some(3));
        assert_eq!(axis(0, 4), Some(0));
        assert_eq!(axis(4, 4), None);
        assert_eq!(axis(-5, 4), None);
        assert_eq!(axis(0, 0), None);
    }
}
