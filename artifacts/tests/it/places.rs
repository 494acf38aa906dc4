//! Which directories can be a cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use anepipe_artifacts::{Store, StoreError};

use crate::children::child;
use crate::support::{Place, run};

#[test]
fn a_new_cache_is_marked_for_backup_programs() {
    let place = Place::new();
    drop(place.store());
    let tag = fs::read_to_string(place.cache().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
    assert_eq!(fs::read_to_string(place.cache().join("version")).unwrap(), "anepipe cache 1\n");
}

#[test]
fn a_file_or_somebodys_directory_is_no_cache() {
    let place = Place::new();
    let file = place.write("file", b"");
    place.write("home/letters.txt", b"");
    for dir in [file.clone(), place.path("home")] {
        let error = Store::open(&dir).unwrap_err();
        assert!(matches!(error, StoreError::NotACache { .. }), "{error}");
    }
    assert!(Store::open(file.join("below")).is_err());
    assert_eq!(fs::read_dir(place.path("home")).unwrap().count(), 1);
}

#[test]
fn a_cache_of_a_later_version_is_refused_and_a_nonsense_one_corrupt() {
    let place = Place::new();
    drop(place.store());
    place.write("cache/version", b"anepipe cache 2\n");
    let error = Store::open(place.cache()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error}");
    for nonsense in [b"" as &[u8], b"anepipe cache -1\n", b"\xff\xfe", b"hello"] {
        place.write("cache/version", nonsense);
        assert!(matches!(Store::open(place.cache()), Err(StoreError::Corrupt { .. })));
    }
}

#[test]
fn a_cache_that_lost_its_version_is_a_cache_still() {
    let place = Place::new();
    let (key, _) = run(&place.store(), 1);
    fs::remove_file(place.cache().join("version")).unwrap();
    assert!(place.store().lookup(&key).unwrap().is_some());
}

/// What `role` says as a user who may not write to `dir`; `None` if there is no way to be one.
fn said_by_a_stranger(place: &Place, role: &str, dir: &std::path::Path) -> Option<String> {
    let mut command = child(role, dir);
    if rustix::process::geteuid().is_root() {
        // Root may write anywhere; nobody may not.
        fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        command.uid(65534);
    }
    let Ok(output) = command.output() else {
        println!("skipped: the test binary cannot be run by another user");
        return None;
    };
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn an_unwritable_place_is_a_clear_error() {
    let place = Place::new();
    let dir = place.path("closed");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).unwrap();
    let Some(said) = said_by_a_stranger(&place, "open", &dir.join("cache")) else { return };
    assert!(said.contains("Denied") && said.contains("closed"), "{said}");
}

#[test]
fn a_cache_that_may_only_be_read_gives_hits() {
    let place = Place::new();
    let store = place.store();
    for n in 0..10 {
        run(&store, n);
    }
    drop(store);
    for dir in ["cache", "cache/tmp"] {
        fs::set_permissions(place.path(dir), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let said = said_by_a_stranger(&place, "look", &place.cache());
    for dir in ["cache", "cache/tmp"] {
        fs::set_permissions(place.path(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let Some(said) = said else { return };
    assert!(said.contains("10 hits") && said.contains("not allowed"), "{said}");
}

#[test]
fn a_collection_waits_for_nobody_and_a_build_waits_for_a_collection() {
    let place = Place::new();
    let mut store = place.store();
    let other = place.store();
    let options =
        anepipe_artifacts::GcOptions { budget: None, grace: std::time::Duration::ZERO, dry_run: false };
    let busy = store.gc(&options).unwrap_err();
    assert!(matches!(busy, StoreError::Busy { .. }), "{busy}");
    drop(other);
    store.gc(&options).unwrap();

    let lock = fs::File::open(place.cache().join("lock")).unwrap();
    drop(store);
    lock.lock().unwrap();
    let error = Store::open_within(place.cache(), std::time::Duration::from_millis(30)).unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    lock.unlock().unwrap();
    Store::open_within(place.cache(), std::time::Duration::ZERO).unwrap();
}
