//! Models split over several files open as one.

use std::{fs, path::Path};

use anepipe_gguf::{Gguf, GgufError, SplitProblem};
use anepipe_testkit::GgufWriter;

use crate::fixture;

#[test]
fn any_part_opens_the_whole_model() {
    for part in 1..=3 {
        let model = fixture::open(&format!("split-{part:05}-of-00003.gguf"));
        let names: Vec<_> = model.tensors().map(|t| t.name()).collect();
        assert_eq!(names, ["blk.0.weight", "blk.1.weight", "blk.2.weight", "blk.3.weight", "blk.4.weight"]);
        for (i, tensor) in model.tensors().enumerate() {
            assert_eq!(tensor.file(), model.files()[i / 2]);
            assert!(fixture::all_f32(&tensor).iter().all(|&w| w.to_bits() == (i as f32).to_bits()));
        }
        // The model's own metadata stands in the first part only.
        assert_eq!(model.metadata().string("fixture.gguf").unwrap(), "0.19.0");
    }
}

#[test]
fn one_part_of_one_is_a_plain_file() {
    let dir = tempfile::tempdir().unwrap();
    let files = GgufWriter::new().f32("a", &[1], &[1.0]).write_split(dir.path(), "m", 9).unwrap();
    assert!(files[0].ends_with("m-00001-of-00001.gguf"));
    assert_eq!(Gguf::open(&files[0]).unwrap().files(), files);
}

/// Copies the three parts to `dir`, changed by `change`, which gets each part's number and bytes and gives its new
/// name.
fn copy(dir: &Path, change: impl Fn(usize, &mut Vec<u8>) -> Option<String>) {
    for part in 1..=3 {
        let mut bytes = fs::read(fixture::path(&format!("split-{part:05}-of-00003.gguf"))).unwrap();
        if let Some(name) = change(part, &mut bytes) {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

fn name(part: usize) -> String {
    format!("m-{part:05}-of-00003.gguf")
}

/// Replaces the one place where `from` stands.
fn patch(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
}

/// A key and a value as they stand in a file.
fn key(name: &str, type_id: u32, value: &[u8]) -> Vec<u8> {
    [&(name.len() as u64).to_le_bytes(), name.as_bytes(), &type_id.to_le_bytes(), value].concat()
}

fn problem(path: &Path) -> SplitProblem {
    match Gguf::open(path).unwrap_err() {
        GgufError::Split { problem, .. } => *problem,
        other => panic!("{other}"),
    }
}

#[test]
fn a_part_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    copy(dir.path(), |part, _| (part != 2).then(|| name(part)));
    let error = Gguf::open(&dir.path().join(name(1))).unwrap_err();
    assert!(matches!(&error, GgufError::Open { file, .. } if file.ends_with(name(2))), "{error}");
}

#[test]
fn a_part_that_was_renamed_is_refused_with_the_name_it_should_have() {
    let dir = tempfile::tempdir().unwrap();
    copy(dir.path(), |part, _| Some(if part == 1 { "model.gguf".to_owned() } else { name(part) }));
    assert_eq!(
        problem(&dir.path().join("model.gguf")),
        SplitProblem::Name { no: 0, count: 3, expected: "-00001-of-00003.gguf".to_owned() }
    );
}

#[test]
fn parts_in_each_others_places_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    copy(dir.path(), |part, _| Some(name([0, 1, 3, 2][part])));
    assert_eq!(
        problem(&dir.path().join(name(1))),
        SplitProblem::Disagrees {
            key: "split.no".to_owned(),
            expected: "1".to_owned(),
            found: "2".to_owned()
        }
    );
}

#[test]
fn a_promise_of_more_tensors_than_there_are_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    copy(dir.path(), |part, bytes| {
        let promise = |count: i32| key("split.tensors.count", 5, &count.to_le_bytes());
        patch(bytes, &promise(5), &promise(6));
        Some(name(part))
    });
    assert_eq!(problem(&dir.path().join(name(3))), SplitProblem::TensorCount { promised: 6, found: 5 });
}

#[test]
fn a_tensor_in_two_parts_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    copy(dir.path(), |part, bytes| {
        if part == 3 {
            patch(bytes, b"blk.4", b"blk.0");
        }
        Some(name(part))
    });
    assert_eq!(
        problem(&dir.path().join(name(1))),
        SplitProblem::DuplicateTensor { tensor: "blk.0.weight".to_owned(), other: dir.path().join(name(1)) }
    );
}

#[test]
fn a_split_that_does_not_say_which_part_it_is_is_refused() {
    let file = GgufWriter::new().meta("split.count", 3_u16).to_bytes();
    let error = fixture::read(file).unwrap_err();
    assert!(matches!(&error, GgufError::Missing { key, .. } if key == "split.no"), "{error}");
}

#[test]
fn a_claim_of_many_parts_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let count = 1_u64 << 60;
    let path = dir.path().join(format!("m-00001-of-{count}.gguf"));
    let file = GgufWriter::new().meta("split.no", 0_u16).meta("split.count", count);
    file.meta("split.tensors.count", 0).write(&path).unwrap();
    let error = Gguf::open(&path).unwrap_err();
    assert!(
        matches!(&error, GgufError::Open { file, .. } if file.to_string_lossy().contains("m-00002-of-")),
        "{error}"
    );
}

#[test]
fn a_part_in_memory_is_refused() {
    let bytes = fs::read(fixture::path("split-00001-of-00003.gguf")).unwrap();
    let error = fixture::read(bytes).unwrap_err();
    assert!(
        error.to_string().contains("it is one of 3 parts, which can only be opened from files"),
        "{error}"
    );
}
