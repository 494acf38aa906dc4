//! Where the elements of a multi array lie.
//!
//! Core ML may pad rows, so that each begins at a multiple of 64 bytes, or keep an array in another order than its shape says. An
//! array is therefore a shape and, for each axis, the number of elements from one index to the next: its stride.

use half::f16;

/// Where the elements of an array lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// From the first element to behind the last.
    span: usize,
}

/// An array that cannot be what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Strides of another rank, of 0, or beyond any memory.
    #[error("strides {strides:?} do not lay out an array of shape {shape:?}")]
    Strides {
        /// The array's extents.
        shape: Vec<usize>,
        /// What was given.
        strides: Vec<usize>,
    },
    /// Extents of two arrays that should have the same.
    #[error("an array of shape {found:?} stands where {expected:?} should be")]
    Shape {
        /// What it should be.
        expected: Vec<usize>,
        /// What it is.
        found: Vec<usize>,
    },
    /// Memory that ends before the array does.
    #[error(
        "an array of shape {shape:?} and strides {strides:?} takes {span} elements, its memory has {elements}"
    )]
    Memory {
        /// The array's extents.
        shape: Vec<usize>,
        /// Its strides.
        strides: Vec<usize>,
        /// Elements it takes.
        span: usize,
        /// Elements there are.
        elements: usize,
    },
}

impl Layout {
    /// An array without gaps, last axis fastest.
    pub fn dense(shape: &[usize]) -> Result<Self, LayoutError> {
        let strides: Option<Vec<usize>> = (0..shape.len())
            .map(|axis| {
                shape.iter().skip(axis + 1).try_fold(1_usize, |product, &extent| product.checked_mul(extent))
            })
            .collect();
        match strides {
            Some(strides) => Self::new(shape, &strides),
            None => Err(LayoutError::Strides { shape: shape.to_vec(), strides: Vec::new() }),
        }
    }

    /// An array with these strides. They may leave gaps; no axis of more than one element may have a stride of 0.
    pub fn new(shape: &[usize], strides: &[usize]) -> Result<Self, LayoutError> {
        let refuse = || LayoutError::Strides { shape: shape.to_vec(), strides: strides.to_vec() };
        if shape.len() != strides.len() {
            return Err(refuse());
        }
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        if shape.contains(&0) {
            return Ok(Self { shape, strides, span: 0 });
        }
        let mut span = 1_usize;
        for (&extent, &stride) in shape.iter().zip(&strides) {
            if extent > 1 && stride == 0 {
                return Err(refuse());
            }
            let reach = (extent - 1).checked_mul(stride).and_then(|reach| span.checked_add(reach));
            span = reach.ok_or_else(refuse)?;
        }
        Ok(Self { shape, strides, span })
    }

    /// Extents, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// By axis, elements from one index to the next.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// Elements from the first to behind the last, gaps included.
    pub fn span(&self) -> usize {
        self.span
    }

    fn fits(&self, elements: usize) -> Result<(), LayoutError> {
        if self.span <= elements {
            return Ok(());
        }
        let (shape, strides) = (self.shape.clone(), self.strides.clone());
        Err(LayoutError::Memory { shape, strides, span: self.span, elements })
    }
}

/// Copies all elements of one array to another of the same shape. What lies in the gaps of either is not touched.
pub fn copy(
    from_layout: &Layout,
    from: &[f16],
    into_layout: &Layout,
    into: &mut [f16],
) -> Result<(), LayoutError> {
    if from_layout.shape != into_layout.shape {
        let (expected, found) = (into_layout.shape.clone(), from_layout.shape.clone());
        return Err(LayoutError::Shape { expected, found });
    }
    from_layout.fits(from.len())?;
    into_layout.fits(into.len())?;
    if from_layout.shape.contains(&0) {
        return Ok(());
    }
    // The axes that lie alike and without gaps in both are copied as one row.
    let (mut row, mut outer) = (1, from_layout.shape.len());
    while let Some(axis) = outer.checked_sub(1) {
        let extent = from_layout.shape[axis];
        let alike = from_layout.strides[axis] == row && into_layout.strides[axis] == row;
        if extent > 1 && !alike {
            break;
        }
        row *= extent;
        outer = axis;
    }
    let axes = Axes {
        extents: &from_layout.shape[..outer],
        from: &from_layout.strides[..outer],
        into: &into_layout.strides[..outer],
        row,
    };
    axes.copy(0, (from, 0), into, 0);
    Ok(())
}

/// The axes that rows are copied along.
struct Axes<'a> {
    extents: &'a [usize],
    from: &'a [usize],
    into: &'a [usize],
    /// Elements of a row.
    row: usize,
}

impl Axes<'_> {
    /// Copies all rows behind an index of the axes before `axis`, which is at those offsets. Both arrays hold their spans.
    fn copy(&self, axis: usize, from: (&[f16], usize), into: &mut [f16], into_at: usize) {
        let Some(&extent) = self.extents.get(axis) else {
            into[into_at..][..self.row].copy_from_slice(&from.0[from.1..][..self.row]);
            return;
        };
        let (mut from_at, mut into_at) = (from.1, into_at);
        for _ in 0..extent {
            self.copy(axis + 1, (from.0, from_at), into, into_at);
            from_at += self.from[axis];
            into_at += self.into[axis];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(count: usize) -> Vec<f16> {
        (0..count).map(|index| f16::from_bits(index as u16 + 1)).collect()
    }

    /// The element at `index`, by the definition of a stride.
    fn offset(layout: &Layout, index: &[usize]) -> usize {
        index.iter().zip(layout.strides()).map(|(&index, &stride)| index * stride).sum()
    }

    fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
        shape.iter().fold(vec![Vec::new()], |indices, &extent| {
            let longer = |index: &Vec<usize>| {
                (0..extent).map(|last| [index.as_slice(), &[last]].concat()).collect::<Vec<_>>()
            };
            indices.iter().flat_map(longer).collect()
        })
    }

    /// Strides of any order of axes, each with gaps.
    fn strided() -> impl Strategy<Value = (Vec<usize>, Vec<Vec<usize>>)> {
        let shape = prop::collection::vec(1..5_usize, 0..5);
        shape.prop_flat_map(|shape| {
            let order = Just((0..shape.len()).collect::<Vec<_>>()).prop_shuffle();
            let gaps = prop::collection::vec(0..4_usize, shape.len());
            let one = (order, gaps, Just(shape.clone())).prop_map(|(order, gaps, shape)| {
                let (mut strides, mut next) = (vec![0; shape.len()], 1);
                for axis in order {
                    strides[axis] = next;
                    next = next * shape[axis] + gaps[axis];
                }
                strides
            });
            (Just(shape), prop::collection::vec(one, 2))
        })
    }

    proptest! {
        #[test]
        fn every_element_gets_where_its_strides_say_and_gaps_are_not_touched((shape, strides) in strided()) {
            let [from, into] = [0, 1].map(|index| Layout::new(&shape, &strides[index]).unwrap());
            let source = numbers(from.span());
            let untouched = f16::from_bits(0xffff);
            let mut target = vec![untouched; into.span() + 3];
            copy(&from, &source, &into, &mut target).unwrap();
            let mut expected = vec![untouched; into.span() + 3];
            for index in indices(&shape) {
                expected[offset(&into, &index)] = source[offset(&from, &index)];
            }
            let bits = |values: &[f16]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&target), bits(&expected));
        }
    }

    /// A KV cache whose rows are padded from 3 to 32 elements, as the Neural Engine likes them.
    #[test]
    fn padded_rows_become_dense_and_padded_again() {
        let shape = [1, 2, 4, 3];
        let padded = Layout::new(&shape, &[256, 128, 32, 1]).unwrap();
        let dense = Layout::dense(&shape).unwrap();
        assert_eq!((dense.strides(), dense.span(), padded.span()), (&[24, 12, 3, 1][..], 24, 128 + 96 + 3));
        let mut memory = vec![f16::NAN; padded.span()];
        copy(&dense, &numbers(24), &padded, &mut memory).unwrap();
        assert_eq!(memory[128 + 64 + 2], numbers(24)[12 + 6 + 2]);
        assert_eq!(memory.iter().filter(|value| value.is_nan()).count(), padded.span() - 24);
        let mut back = vec![f16::ZERO; 24];
        copy(&padded, &memory, &dense, &mut back).unwrap();
        assert_eq!(back, numbers(24));
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_copied() {
        for (shape, strides) in [
            (&[2, 3][..], &[3][..]),
            (&[2, 3], &[0, 1]),
            (&[2, usize::MAX], &[1, 2]),
            (&[usize::MAX, 2, 2], &[1, usize::MAX, usize::MAX]),
        ] {
            let error = Layout::new(shape, strides).unwrap_err();
            assert!(matches!(error, LayoutError::Strides { .. }), "{error}");
        }
        assert!(Layout::dense(&[usize::MAX, usize::MAX, 2]).is_err());

        let dense = Layout::dense(&[2, 3]).unwrap();
        let mut into = vec![f16::NAN; 6];
        let other = Layout::dense(&[3, 2]).unwrap();
        let error = copy(&other, &numbers(6), &dense, &mut into).unwrap_err();
        assert_eq!(error.to_string(), "an array of shape [3, 2] stands where [2, 3] should be");
        let error = copy(&dense, &numbers(5), &dense, &mut into).unwrap_err();
        let told =
            "an array of shape [2, 3] and strides [3, 1] takes 6 elements, its memory has 5".to_owned();
        assert_eq!(error.to_string(), told);
        let error = copy(&dense, &numbers(6), &dense, &mut into[..5]).unwrap_err();
        assert_eq!(error.to_string(), told);
        assert!(into.iter().all(|value| value.is_nan()));
    }

    #[test]
    fn an_array_of_nothing_takes_no_memory() {
        let nothing = Layout::dense(&[2, 0, 3]).unwrap();
        assert_eq!(nothing.span(), 0);
        copy(&nothing, &[], &nothing, &mut []).unwrap();
        let scalar = Layout::dense(&[]).unwrap();
        let mut into = [f16::ZERO];
        copy(&scalar, &[f16::ONE], &scalar, &mut into).unwrap();
        assert_eq!(into, [f16::ONE]);
    }
}
