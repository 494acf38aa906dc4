//! Shapes, and weights by rows.

use std::ops::Range;

use anepipe_gguf::{Gguf, GgufError, TensorType, first_non_finite_f16, first_non_finite_f32};
use anepipe_testkit::{GgufWriter, SplitMix64};
use half::f16;
use proptest::prelude::*;

use crate::fixture;

/// A model of one tensor, "t", of random bytes.
fn one(dtype: TensorType, dims: &[u64]) -> Gguf {
    let weights: u64 = dims.iter().product();
    let len = weights / dtype.block_len().unwrap() * dtype.block_bytes().unwrap();
    let content = SplitMix64::new(1).bytes(len as usize);
    fixture::read(GgufWriter::new().tensor("t", dims, dtype.id(), content).to_bytes()).unwrap()
}

#[test]
fn dims_are_fastest_first_and_shape_slowest_first() {
    let model = fixture::open("values.gguf");
    let tensor = model.tensor("three").unwrap();
    assert_eq!((tensor.name(), tensor.dtype()), ("three", TensorType::F32));
    assert_eq!((tensor.dims(), tensor.shape()), ([4, 3, 2].as_slice(), vec![2, 3, 4]));
    assert_eq!((tensor.row_len(), tensor.rows(), tensor.len()), (4, 6, 24));
    assert!(tensor.file().ends_with("values.gguf"));
    let mut row = [0.0; 4];
    tensor.dequantize_rows_f32(5..6, &mut row).unwrap();
    assert_eq!(row.map(f32::to_bits), [20.0_f32, 21.0, 22.0, 23.0].map(f32::to_bits));
}

#[test]
fn a_type_without_a_kernel_is_listed_and_refused_by_name() {
    let model = fixture::open("values.gguf");
    let tensor = model.tensor("integers").unwrap();
    assert_eq!((tensor.dtype(), tensor.bytes().len()), (TensorType::I32, 8));
    let error = tensor.dequantize_rows_f32(0..1, &mut [0.0; 2]).unwrap_err();
    assert!(matches!(error, GgufError::NoKernel { dtype: TensorType::I32, .. }), "{error}");
    assert!(error.to_string().contains("tensor \"integers\""), "{error}");
}

#[test]
fn a_type_nobody_knows_is_listed_and_refused_by_number() {
    let file = GgufWriter::new().tensor("new", &[7, 3], 1000, vec![1, 2, 3]).f32("old", &[1], &[2.0]);
    let model = fixture::read(file.to_bytes()).unwrap();
    let tensor = model.tensor("new").unwrap();
    assert_eq!((tensor.dtype(), tensor.dims()), (TensorType::Unknown(1000), [7, 3].as_slice()));
    assert!(tensor.bytes().is_empty());
    let error = tensor.dequantize_rows_f16(0..0, &mut []).unwrap_err();
    assert!(error.to_string().contains("no kernel for unknown type 1000"), "{error}");
    assert_eq!(fixture::all_f32(&model.tensor("old").unwrap()).len(), 1);
}

#[test]
fn rows_and_output_must_fit() {
    let model = one(TensorType::Q8_0, &[64, 4]);
    let tensor = model.tensor("t").unwrap();
    #[allow(clippy::reversed_empty_ranges)] // what the test is about
    let wrong: [(Range<u64>, usize, &str); 6] = [
        (0..5, 320, "cannot read rows 0..5 of tensor \"t\" of memory.gguf: it has 4 rows"),
        (3..2, 0, "cannot read rows 3..2 of tensor \"t\" of memory.gguf: it has 4 rows"),
        (4..u64::MAX, 64, "it has 4 rows"),
        (0..2, 127, "the rows asked for are 128 weights, the output has room for 127"),
        (0..2, 129, "the rows asked for are 128 weights, the output has room for 129"),
        (0..0, 64, "the rows asked for are 0 weights, the output has room for 64"),
    ];
    for (rows, len, message) in wrong {
        let wide = tensor.dequantize_rows_f32(rows.clone(), &mut vec![0.0; len]).unwrap_err().to_string();
        let narrow = tensor.dequantize_rows_f16(rows, &mut vec![f16::ZERO; len]).unwrap_err().to_string();
        assert!(wide.contains(message) && narrow.contains(message), "{wide}");
    }
    tensor.dequantize_rows_f32(4..4, &mut []).unwrap();
}

#[test]
fn rows_can_be_read_from_many_threads() {
    let model = fixture::open("types.gguf");
    let tensor = model.tensor("Q6_K").unwrap();
    let whole = fixture::bits_f32(&fixture::all_f32(&tensor));
    std::thread::scope(|scope| {
        for (row, expected) in whole.chunks(512).enumerate() {
            scope.spawn(move || {
                let mut out = [0.0; 512];
                tensor.dequantize_rows_f32(row as u64..row as u64 + 1, &mut out).unwrap();
                assert_eq!(fixture::bits_f32(&out), expected);
            });
        }
    });
}

#[test]
fn a_tensor_that_was_released_reads_the_same() {
    let model = fixture::open("types.gguf");
    let tensor = model.tensor("Q4_K").unwrap();
    let (bytes, weights) = (tensor.bytes().to_vec(), fixture::all_f32(&tensor));
    tensor.release();
    assert_eq!(tensor.bytes(), bytes);
    assert_eq!(fixture::bits_f32(&fixture::all_f32(&tensor)), fixture::bits_f32(&weights));
    // In memory there is nowhere to read from again, and nothing is dropped.
    let model = one(TensorType::Q8_0, &[64, 4]);
    let tensor = model.tensor("t").unwrap();
    let bytes = tensor.bytes().to_vec();
    tensor.release();
    assert_eq!(tensor.bytes(), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the type, shape and range: rows are those of the whole, and f16 is f32 rounded to nearest even.
    #[test]
    fn any_rows_are_those_of_the_whole(
        dtype in prop::sample::select(TensorType::known().filter(|t| t.can_dequantize()).collect::<Vec<_>>()),
        blocks in 1_u64..9,
        rows in 1_u64..6,
        cut in (0_u64..6, 0_u64..6),
    ) {
        let columns = blocks * dtype.block_len().unwrap();
        let model = one(dtype, &[columns, rows]);
        let tensor = model.tensor("t").unwrap();
        let (start, end) = (cut.0.min(cut.1).min(rows), cut.0.max(cut.1).min(rows));
        let len = ((end - start) * columns) as usize;
        let whole = fixture::all_f32(&tensor);
        let part = &whole[(start * columns) as usize..(end * columns) as usize];

        let mut wide = vec![0.0; len];
        tensor.dequantize_rows_f32(start..end, &mut wide).unwrap();
        prop_assert_eq!(fixture::bits_f32(&wide), fixture::bits_f32(part));

        let mut narrow = vec![f16::ZERO; len];
        tensor.dequantize_rows_f16(start..end, &mut narrow).unwrap();
        let rounded: Vec<f16> = part.iter().map(|&w| f16::from_f32_const(w)).collect(); // half's portable code
        prop_assert_eq!(fixture::bits_f16(&narrow), fixture::bits_f16(&rounded));
    }

    /// The search for a weight that is not finite finds the first.
    #[test]
    fn the_first_weight_that_is_not_finite_is_found(len in 0_usize..900, bad in prop::collection::vec(0_usize..900, 0..4)) {
        let mut wide = vec![f32::MAX; len];
        let mut narrow = vec![f16::MIN; len];
        for (&at, &value) in bad.iter().zip([f32::NAN, f32::INFINITY, f32::NEG_INFINITY].iter().cycle()) {
            if at < len {
                wide[at] = value;
                narrow[at] = f16::from_f32(value);
            }
        }
        let expected = bad.iter().copied().filter(|&at| at < len).min();
        prop_assert_eq!(first_non_finite_f32(&wide), expected);
        prop_assert_eq!(first_non_finite_f16(&narrow), expected);
    }
}
