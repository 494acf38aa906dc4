//! Input files: hashed again when anything about them says so.

use std::fs;
use std::time::{Duration, SystemTime};

use anepipe_artifacts::{Digest, StoreError};

use crate::support::Place;

#[test]
fn a_change_is_seen_even_if_size_and_time_stay() {
    let place = Place::new();
    let path = place.write("model.gguf", b"one");
    let time = SystemTime::now() - Duration::from_hours(1);
    let set_time = || fs::File::open(&path).unwrap().set_modified(time).unwrap();
    set_time();
    let digest = || place.store().digest_of_input(&path).unwrap();
    assert_eq!(digest(), (Digest::of_bytes(b"one"), 3));
    fs::write(&path, b"two").unwrap();
    set_time();
    assert_eq!(digest(), (Digest::of_bytes(b"two"), 3));
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
