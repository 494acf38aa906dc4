#![allow(clippy::float_cmp)] // exactness is what is tested

use anepipe_gguf::{Gguf, TensorType};
use anepipe_testkit::GgufWriter;

use super::*;
use crate::tensors::TensorFile;

/// A model file of those tensors, extents slowest first.
fn model(tensors: &[(&str, TensorType, &[usize], Vec<u8>)]) -> Gguf {
    let writer = tensors.iter().fold(GgufWriter::new(), |writer, (name, dtype, shape, bytes)| {
        let dims: Vec<u64> = shape.iter().rev().map(|extent| *extent as u64).collect();
        writer.tensor(name, &dims, dtype.id(), bytes.clone())
    });
    Gguf::from_bytes("model.gguf", writer.to_bytes()).expect("a model file")
}

/// Quantizes all of `gguf` into a file of `folder`.
fn quantized(gguf: &Gguf, folder: &Path, quantization: Quantization) -> (TensorFile, Report) {
    let output = folder.join("out");
    let report = quantize(&Weights::all_of(gguf), &output, quantization).expect("quantized");
    (TensorFile::open(&output).expect("the output"), report)
}

fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|w| f16::from_f32(*w).to_le_bytes()).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn read_halves(file: &TensorFile, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).expect(name).read().expect(name);
    bytes.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
}

fn read_values(file: &TensorFile, name: &str) -> Vec<i8> {
    file.tensor(name).expect(name).read().expect(name).into_iter().map(u8::cast_signed).collect()
}

/// A norm and a matrix with rows of magnitude 127 and 254, and a row of zeros.
fn example() -> Gguf {
    let weights = [1.0, -127.0, 3.4, 254.0, 2.0, -1.0, 0.0, 0.0, 0.0];
    model(&[
        ("norm", TensorType::F32, &[2], floats(&[1.0, 1.000_1])),
        ("w", TensorType::F16, &[3, 3], halves(&weights)),
    ])
}

fn run(quantization: Quantization) -> (TensorFile, Report, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, report) = quantized(&example(), dir.path(), quantization);
    (file, report, dir)
}

#[test]
fn int8_has_a_scale_per_row() {
    let (file, report, _dir) = run(Quantization::Int8);
    assert_eq!(file.names(), ["norm", "w.scale", "w.int8"]);
    assert_eq!(read_values(&file, "w.int8"), [1, -127, 3, 127, 1, 0, 0, 0, 0]);
    assert_eq!(read_halves(&file, "w.scale"), [1.0, 2.0, 1.0]);
    assert_eq!(file.tensor("w.scale").expect("scales").shape(), [3]);
    let error = report.tensor("w").expect("a row of the report");
    assert!((error.max_abs - 1.0).abs() < 1e-6, "−1 in steps of 2 is a tie, and went to 0: {error:?}");
    assert_eq!(report.quantization, Quantization::Int8);
}

#[test]
fn int8_per_tensor_has_one_scale() {
    let (file, _, _dir) = run(Quantization::Int8PerTensor);
    assert_eq!(read_values(&file, "w.int8"), [0, -64, 2, 127, 1, 0, 0, 0, 0]);
    assert_eq!(read_halves(&file, "w.scale"), [2.0]);
}

#[test]
fn f16_passes_weights_through() {
    let (file, report, _dir) = run(Quantization::F16);
    assert_eq!(file.names(), ["norm", "w.weight"]);
    assert_eq!(read_halves(&file, "w.weight")[..4], [1.0, -127.0, f16::from_f32(3.4).to_f32(), 254.0]);
    let error = report.tensor("w").expect("a row of the report");
    assert_eq!((error.rms_relative, error.cosine), (0.0, 1.0));
}

#[test]
fn norms_become_fp16_in_every_form() {
    for quantization in Quantization::ALL {
        let (file, report, _dir) = run(quantization);
        assert_eq!(file.tensor("norm").expect("norm").dtype(), Dtype::F16);
        assert_eq!(read_halves(&file, "norm"), [1.0, 1.0], "{quantization}");
        assert!((report.tensor("norm").expect("norm").max_abs - 0.0001).abs() < 1e-6);
    }
}

#[test]
fn files_do_not_depend_on_the_number_of_threads() {
    let dir = tempfile::tempdir().expect("a directory");
    // Several pieces, the last one short.
    let (rows, columns) = (700, 1000);
    let weights: Vec<f32> =
        (0..rows * columns).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 977.0).collect();
    let gguf = model(&[("w", TensorType::F16, &[rows, columns], halves(&weights))]);
    for quantization in Quantization::ALL {
        let mut seen = None;
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let (file, report) = pool.install(|| quantized(&gguf, dir.path(), quantization));
            let this = (std::fs::read(file.path()).expect("the output"), report);
            assert!(seen.replace(this.clone()).is_none_or(|before| before == this), "{quantization}");
        }
    }
}

#[test]
fn rows_of_several_tensors_are_quantized_as_one_matrix() {
    // More than a piece, cut where no piece begins.
    let (rows, columns, cut) = (300, 1000, 77);
    let weights: Vec<f32> = (0..rows * columns).map(|i| (i * 7919 % 2003) as f32 - 1001.0).collect();
    let (above, below) = weights.split_at(cut * columns);
    let whole = model(&[("w", TensorType::F16, &[rows, columns], halves(&weights))]);
    let parts = model(&[
        ("a", TensorType::F16, &[cut, columns], halves(above)),
        ("b", TensorType::F32, &[rows - cut, columns], floats(below)),
    ]);
    let dir = tempfile::tempdir().expect("a directory");
    for quantization in Quantization::ALL {
        let (file, report) = quantized(&whole, dir.path(), quantization);
        let expected = (std::fs::read(file.path()).expect("the output"), report);
        let output = dir.path().join("joined");
        let report = quantize(&Weights::joined("w", &parts), &output, quantization).expect("quantized");
        assert!((std::fs::read(&output).expect("the output"), report) == expected, "{quantization}");
    }
}

#[test]
fn what_cannot_be_stored_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = dir.path().join("out");
    let weights = |bad: f32| halves(&[0.0, 0.0, 0.0, 0.0, 0.0, bad]);
    let (f16, f32) = (TensorType::F16, TensorType::F32);
    for (tensor, expected) in [
        (("w", f16, &[3, 2][..], weights(f32::NAN)), "`w` has the value NaN in row 2, column 1"),
        (("w", f16, &[2, 3], weights(f32::NEG_INFINITY)), "`w` has the value -inf in row 1, column 2"),
        (("w", f32, &[1, 2], floats(&[65504.0, -65520.0])), "`w` has the value -65520 in row 0, column 1"),
        (("n", f32, &[2], floats(&[1.0, 65520.0])), "`n` has the value 65520 in row 0, column 1"),
        (("n", f32, &[1], floats(&[f32::NAN])), "`n` has the value NaN"),
    ] {
        let gguf = model(&[tensor]);
        for quantization in Quantization::ALL {
            let error = quantize(&Weights::all_of(&gguf), &output, quantization).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!output.exists());
        }
    }
}

#[test]
fn quantizations_are_known_by_name() {
    for quantization in Quantization::ALL {
        assert_eq!(quantization.name().parse(), Ok(quantization));
        assert_eq!(serde_json::to_value(quantization).expect("a name"), quantization.name());
    }
    assert!("int4".parse::<Quantization>().expect_err("unknown").contains("int8-per-tensor"));
}

/// How coremltools and this stage may differ, in a matrix that coremltools quantized with the scales `theirs`.
mod coremltools {
    use super::*;

    struct Case {
        weights: Vec<f32>,
        columns: usize,
        theirs: (Vec<i8>, Vec<f32>),
        ours: (Vec<i8>, Vec<f32>),
    }

    fn case(matrix: &str, granularity: &str, quantization: Quantization) -> Case {
        let fixture = TensorFile::open(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/linear_quantize_weights.safetensors"),
        )
        .expect("the fixture");
        let tensor = fixture.tensor(matrix).expect(matrix);
        let shape = tensor.shape().to_vec();
        let dir = tempfile::tempdir().expect("a directory");
        let gguf = model(&[("w", TensorType::F16, &shape, tensor.read().expect(matrix))]);
        let (ours, _) = quantized(&gguf, dir.path(), quantization);
        Case {
            weights: read_halves(&fixture, matrix),
            columns: shape[1],
            theirs: (
                read_values(&fixture, &format!("{matrix}.{granularity}.int8")),
                read_halves(&fixture, &format!("{matrix}.{granularity}.scale")),
            ),
            ours: (read_values(&ours, "w.int8"), read_halves(&ours, "w.scale")),
        }
    }

    /// The rows (or the one tensor) a scale stands for: their largest weight, and where they lie.
    fn groups(case: &Case) -> Vec<(f32, std::ops::Range<usize>)> {
        let length = case.weights.len() / case.theirs.1.len();
        assert!(length == case.columns || length == case.weights.len());
        let largest = |weights: &[f32]| weights.iter().fold(0_f32, |max, w| max.max(w.abs()));
        let groups = case.weights.chunks(length).enumerate();
        groups.map(|(i, weights)| (largest(weights), i * length..(i + 1) * length)).collect()
    }

    #[test]
    fn scales_and_values_are_equal() {
        for (matrix, rows_apart) in
            [("plain", 0), ("outliers", 0), ("constant", 0), ("zeros", 3), ("tiny", 7)]
        {
            for (granularity, quantization, apart) in [
                ("per_channel", Quantization::Int8, rows_apart),
                ("per_tensor", Quantization::Int8PerTensor, 0),
            ] {
                let case = case(matrix, granularity, quantization);
                let mut skipped = 0;
                for (index, (largest, at)) in groups(&case).into_iter().enumerate() {
                    // Zeros, and rows whose largest weight coremltools clips: the next test is theirs.
                    if largest == 0.0 || largest > case.theirs.1[index] * 127.5 {
                        skipped += 1;
                        continue;
                    }
                    let what = format!("{matrix} {granularity} {index}");
                    assert_eq!(case.ours.1[index], case.theirs.1[index], "{what}");
                    assert_eq!(case.ours.0[at.clone()], case.theirs.0[at], "{what}");
                }
                assert_eq!(skipped, apart, "{matrix} {granularity}");
            }
        }
    }

    #[test]
    fn rows_that_coremltools_clips_or_divides_by_zero_are_kept() {
        let zeros = case("zeros", "per_channel", Quantization::Int8);
        for row in [0, 5, 11] {
            assert_eq!((zeros.theirs.1[row], zeros.ours.1[row]), (0.0, 1.0));
            assert!(zeros.ours.0[row * zeros.columns..][..zeros.columns].iter().all(|q| *q == 0));
        }

        let tiny = case("tiny", "per_channel", Quantization::Int8);
        let step = f16::from_bits(1).to_f32();
        for (row, (largest, at)) in groups(&tiny).into_iter().enumerate() {
            let (theirs, ours) = (tiny.theirs.1[row], tiny.ours.1[row]);
            assert_eq!(ours, if largest > theirs * 127.5 { theirs + step } else { theirs }, "row {row}");
            for (w, q) in tiny.weights[at.clone()].iter().zip(&tiny.ours.0[at]) {
                assert!(
                    (w - f32::from(*q) * ours).abs() <= ours * 17.0 / 32.0,
                    "row {row}: {w} as {q} · {ours}"
                );
            }
        }
    }
}
