use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;

fn specs() -> Vec<TensorSpec> {
    vec![
        TensorSpec::new("bytes", Dtype::I8, [3]),
        TensorSpec::new("halves", Dtype::F16, [2, 3]),
        TensorSpec::new("floats", Dtype::F32, [2]),
    ]
}

fn write(path: &Path) {
    let writer = TensorWriter::create(path, specs()).expect("a writer");
    // Out of order and in pieces, as threads do it.
    writer.write_at(1, 6, &[7, 8, 9, 10, 11, 12]).expect("halves, second row");
    writer.write_at(2, 0, &[0, 0, 128, 63, 0, 0, 0, 64]).expect("floats");
    writer.write_at(0, 0, &[255, 0, 1]).expect("bytes");
    writer.write_at(1, 0, &[1, 2, 3, 4, 5, 6]).expect("halves, first row");
    writer.finish().expect("a whole file");
}

fn error<T: std::fmt::Debug>(result: Result<T, TensorsError>) -> String {
    result.expect_err("an error").to_string()
}

#[test]
fn what_is_written_is_what_the_reference_reader_finds() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.safetensors");
    write(&path);
    let bytes = std::fs::read(&path).expect("the file");
    let tensors = SafeTensors::deserialize(&bytes).expect("a file the reference implementation accepts");
    for (name, dtype, shape, data) in [
        ("bytes", Dtype::I8, &[3][..], &[255, 0, 1][..]),
        ("halves", Dtype::F16, &[2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ("floats", Dtype::F32, &[2], &[0, 0, 128, 63, 0, 0, 0, 64]),
    ] {
        let tensor = tensors.tensor(name).expect(name);
        assert_eq!((tensor.dtype(), tensor.shape(), tensor.data()), (dtype, shape, data), "{name}");
    }
}

#[test]
fn data_are_aligned_and_wider_types_come_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.safetensors");
    write(&path);
    let file = TensorFile::open(&path).expect("the file");
    assert_eq!(file.names(), ["floats", "halves", "bytes"]);
    assert_eq!(file.tensor("floats").expect("floats").file_offset() % 64, 0);
}

#[test]
fn the_same_tensors_give_the_same_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    write(&a);
    write(&b);
    assert_eq!(std::fs::read(a).expect("a"), std::fs::read(b).expect("b"));
}

#[test]
fn pieces_are_read_at_their_offsets() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.safetensors");
    write(&path);
    let file = TensorFile::open(&path).expect("the file");
    let halves = file.tensor("halves").expect("halves");
    let mut two = [0; 2];
    halves.read_at(6, &mut two).expect("two bytes");
    assert_eq!(two, [7, 8]);
    assert_eq!(halves.read().expect("all").len() as u64, halves.bytes());
    assert!(error(halves.read_at(11, &mut two)).contains("`halves` has no 2 bytes at 11"));
    assert!(error(halves.read_at(u64::MAX, &mut two)).contains("`halves`"));
    assert!(error(file.tensor("none")).contains("no tensor `none`; it has floats, halves, bytes"));
}

#[test]
fn an_unfinished_file_never_appears() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.safetensors");
    let writer = TensorWriter::create(&path, specs()).expect("a writer");
    writer.write_at(0, 0, &[1, 2]).expect("two of three bytes");
    assert!(error(writer.finish()).contains("2 of the 3 bytes of `bytes`"));
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 0);
}

#[test]
fn what_does_not_fit_the_header_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.safetensors");
    let writer = TensorWriter::create(&path, specs()).expect("a writer");
    assert!(error(writer.write_at(0, 2, &[1, 2])).contains("2 bytes at 2 do not fit `bytes`"));
    assert!(error(writer.write_at(0, u64::MAX, &[1])).contains("do not fit `bytes`"));
    assert!(error(writer.write_at(3, 0, &[1])).contains("no tensor number 3"));
    let twice = vec![TensorSpec::new("a", Dtype::I8, [1]), TensorSpec::new("a", Dtype::I8, [1])];
    assert!(error(TensorWriter::create(&path, twice)).contains("two tensors are named `a`"));
    let huge = vec![TensorSpec::new("a", Dtype::F16, [usize::MAX, 2])];
    assert!(error(TensorWriter::create(&path, huge)).contains("too large"));
}

#[test]
fn a_file_that_is_cut_short_or_padded_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.safetensors");
    write(&path);
    let whole = std::fs::read(&path).expect("the file");
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("a short file");
        assert!(TensorFile::open(&path).is_err(), "{length} bytes were accepted");
    }
    let mut longer = whole;
    longer.push(0);
    std::fs::write(&path, longer).expect("a long file");
    assert!(error(TensorFile::open(&path)).contains("appended to"));
}

proptest! {
    /// Whatever a header says, opening it is an answer: an error, or tensors that lie inside the file.
    #[test]
    fn no_header_is_trusted(length in any::<u64>(), json in "\\PC{0,80}", tail in 0_usize..64) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        for length in [length, json.len() as u64] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend_from_slice(json.as_bytes());
            bytes.extend(std::iter::repeat_n(0, tail));
            std::fs::write(&path, &bytes).expect("a file");
            if let Ok(file) = TensorFile::open(&path) {
                for name in file.names() {
                    prop_assert!(file.tensor(&name).expect("listed").read().is_ok());
                }
            }
        }
    }
}
