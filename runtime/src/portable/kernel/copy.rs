//! Moving elements between strided tensors.

use half::f16;

/// Turns below which the innermost loop gives way to the one around it.
const SHORT: usize = 16;

/// Loops that move elements: extents, and how far the source and the target move along each. Slowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    loops: Vec<Loop>,
    source: usize,
    target: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Loop {
    extent: usize,
    source: usize,
    target: usize,
}

impl Copy {
    /// A copy of `extents` elements, beginning at `source` and `target` and moving by the strides along each axis.
    pub fn new(
        extents: &[usize],
        (source, source_strides): (usize, &[usize]),
        (target, target_strides): (usize, &[usize]),
    ) -> Self {
        let mut loops: Vec<Loop> = Vec::new();
        let axes = extents.iter().zip(source_strides).zip(target_strides);
        for ((&extent, &source), &target) in axes.filter(|((extent, _), _)| **extent != 1) {
            let inner = Loop { extent, source, target };
            match loops.last_mut() {
                // Two loops that step as one are one.
                Some(outer) if outer.source == source * extent && outer.target == target * extent => {
                    *outer = Loop { extent: outer.extent * extent, ..inner };
                }
                _ => loops.push(inner),
            }
        }
        // A short loop costs as much to begin as to run; whichever order elements are moved in, they end up the same.
        if let [.., outer, inner] = loops.as_mut_slice()
            && inner.extent < SHORT
            && outer.extent > inner.extent
        {
            std::mem::swap(outer, inner);
        }
        Self { loops, source, target }
    }

    /// Whether it moves `source..` to `target..` in one piece, and how long the piece is.
    pub fn contiguous(&self) -> Option<usize> {
        match self.loops.as_slice() {
            [] => Some(1),
            [Loop { extent, source: 1, target: 1 }] => Some(*extent),
            _ => None,
        }
    }

    /// Where reading begins.
    pub fn source(&self) -> usize {
        self.source
    }

    /// Moves the elements.
    pub fn run(&self, x: &[f16], out: &mut [f16]) {
        walk(&self.loops, self.source, self.target, x, out);
    }
}

fn walk(loops: &[Loop], source: usize, target: usize, x: &[f16], out: &mut [f16]) {
    match loops {
        [] => out[target] = x[source],
        [Loop { extent, source: 1, target: 1 }] => {
            out[target..target + extent].copy_from_slice(&x[source..source + extent]);
        }
        [Loop { extent: 0, .. }, ..] => {}
        [Loop { extent, source: step, target: 1 }] => {
            let elements = x[source..].iter().step_by((*step).max(1));
            if *step == 0 {
                out[target..target + extent].fill(x[source]);
            } else {
                out[target..target + extent].iter_mut().zip(elements).for_each(|(out, &x)| *out = x);
            }
        }
        [Loop { extent, source: from, target: to }] => {
            for index in 0..*extent {
                out[target + index * to] = x[source + index * from];
            }
        }
        [Loop { extent, source: from, target: to }, inner @ ..] => {
            for index in 0..*extent {
                walk(inner, source + index * from, target + index * to, x, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: u16) -> Vec<f16> {
        (0..count).map(f16::from_bits).collect()
    }

    fn bits(copy: &Copy, x: &[f16], length: usize) -> Vec<u16> {
        let mut out = vec![f16::from_bits(99); length];
        copy.run(x, &mut out);
        out.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn loops_that_step_as_one_are_merged() {
        let copy = Copy::new(&[2, 1, 3, 4], (5, &[12, 7, 4, 1]), (0, &[12, 12, 4, 1]));
        assert_eq!(copy.contiguous(), Some(24));
        assert_eq!(copy.source(), 5);
        assert_eq!(Copy::new(&[2, 3], (0, &[4, 1]), (0, &[3, 1])).contiguous(), None);
    }

    #[test]
    fn four_rows_and_four_columns_are_moved_as_any_number_is() {
        for count in [3_usize, 4, 5] {
            for length in [1_usize, 3, 20] {
                let x = numbers(200);
                // Whole, and with room between rows.
                for apart in [0, 2] {
                    let (row, step) = (length + apart, count + apart);
                    let columns = Copy::new(&[count, length], (7, &[1, step]), (1, &[row, 1]));
                    let rows = Copy::new(&[length, count], (7, &[1, row]), (1, &[step, 1]));
                    let (columns, rows) = (bits(&columns, &x, 150), bits(&rows, &x, 150));
                    let (mut by_column, mut by_row) = (vec![99; 150], vec![99; 150]);
                    for (slot, place) in
                        (0..count).flat_map(|slot| (0..length).map(move |place| (slot, place)))
                    {
                        by_column[1 + slot * row + place] = (7 + slot + place * step) as u16;
                        by_row[1 + slot + place * step] = (7 + slot * row + place) as u16;
                    }
                    assert_eq!((columns, rows), (by_column, by_row), "{count} {length} {apart}");
                }
            }
        }
    }

    #[test]
    fn moves_a_transpose_a_slice_and_nothing() {
        assert_eq!(bits(&Copy::new(&[3, 2], (0, &[1, 3]), (0, &[2, 1])), &numbers(6), 6), [0, 3, 1, 4, 2, 5]);
        assert_eq!(
            bits(&Copy::new(&[2, 2], (1, &[4, 2]), (1, &[3, 1])), &numbers(8), 6),
            [99, 1, 3, 99, 5, 7]
        );
        assert_eq!(bits(&Copy::new(&[2, 0], (0, &[0, 1]), (0, &[0, 1])), &[], 1), [99]);
        assert_eq!(bits(&Copy::new(&[4, 0], (0, &[1, 4]), (0, &[0, 1])), &[], 1), [99]);
        assert_eq!(bits(&Copy::new(&[1], (2, &[1]), (0, &[1])), &numbers(3), 1), [2]);
    }
}
