//! Input files: hashed once, and again when anything about them says so.

use std::fs;
use std::time::{Duration, SystemTime};

use anepipe_artifacts::{Digest, StoreError};

use crate::support::Place;

#[test]
fn a_file_at_rest_is_hashed_once() {
    let place = Place::new();
    let path = place.write("model.gguf", b"weights");
    // At rest by its modification time; its change time is of now, so the first entry is not yet believed.
    age(&path);
    let digest = (Digest::of_bytes(b"weights"), 7);
    assert_eq!(place.store().digest_of_input(&path).unwrap(), digest);
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(place.store().digest_of_input(&path).unwrap(), digest);
    // The same file with the same stat, but unreadable content: only the memory can answer. A changed byte below the file
    // system's eyes is simulated by a store that is asked through another process's index.
    let remembered = place.store();
    let started = std::time::Instant::now();
    assert_eq!(remembered.digest_of_input(&path).unwrap(), digest);
    assert!(started.elapsed() < Duration::from_secs(1));
}

fn age(path: &std::path::Path) {
    fs::File::open(path).unwrap().set_modified(SystemTime::now() - Duration::from_hours(1)).unwrap();
}

#[test]
fn a_change_is_seen_even_if_size_and_time_stay() {
    let place = Place::new();
    let path = place.write("model.gguf", b"one");
    age(&path);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let store = place.store();
    assert_eq!(store.digest_of_input(&path).unwrap().0, Digest::of_bytes(b"one"));
    fs::write(&path, b"two").unwrap();
    fs::File::open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(store.digest_of_input(&path).unwrap().0, Digest::of_bytes(b"two"));
}

#[test]
fn only_files_are_inputs() {
    let place = Place::new();
    let store = place.store();
    fs::create_dir(place.path("dir")).unwrap();
    assert!(matches!(store.digest_of_input(&place.path("dir")), Err(StoreError::Refused { .. })));
    let error = store.digest_of_input(&place.path("absent")).unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}
