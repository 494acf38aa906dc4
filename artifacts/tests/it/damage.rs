//! Verify: finds what lookups cannot see, and sets it aside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anepipe_artifacts::{Damage, Digest, How, Repair, Store};

use crate::support::{Place, forge_time, record, run};

fn edit_in_place(path: &Path, content: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
}

fn damages(store: &Store, repair: Repair) -> Vec<(String, Damage, bool)> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let report = store.verify(repair).unwrap();
    report.findings.into_iter().map(|found| (name(&found.path), found.damage, found.repaired)).collect()
}

#[test]
fn a_sound_cache_has_no_findings() {
    let place = Place::new();
    let store = place.store();
    for n in 0..10 {
        run(&store, n);
    }
    let report = store.verify(Repair::No).unwrap();
    assert_eq!((report.objects, report.bytes, report.actions), (10, 80, 10));
    assert!(report.is_sound() && report.findings.is_empty());
}

#[test]
fn an_output_edited_in_place_is_found_and_set_aside() {
    let place = Place::new();
    let store = place.store();
    let (key, artifact) = run(&store, 1);
    let (other, _) = run(&store, 2);
    let like = store.path_of(&Digest::of_bytes(b"output 2"));
    let out = place.path("out");
    store.materialize(&artifact, &out, How::Link).unwrap();
    edit_in_place(&out, b"OUTPUT 1");
    // The editor even restored the time, so that no lookup can see it.
    forge_time(&out, &like);
    assert!(place.store().lookup(&key).unwrap().is_some());

    let name = artifact.digest().to_string();
    let content = Damage::Content { found: Digest::of_bytes(b"OUTPUT 1") };
    let record_name = format!("{key}.json");
    let expected = |repaired| {
        [(record_name.clone(), Damage::Incomplete, repaired), (name.clone(), content.clone(), repaired)]
    };
    assert_eq!(damages(&store, Repair::No), expected(false));
    assert!(!store.verify(Repair::No).unwrap().is_sound());
    assert_eq!(damages(&store, Repair::SetAside), expected(true));
    assert_eq!(damages(&store, Repair::No), []);

    assert!(store.lookup(&key).unwrap().is_none());
    assert!(store.lookup(&other).unwrap().is_some());
    let kept = fs::read_dir(place.cache().join("quarantine")).unwrap().count();
    assert_eq!(kept, 2, "the damaged files are not in quarantine");
    // Built again, it is whole; the user's edited file is the user's.
    run(&store, 1);
    assert!(place.store().lookup(&key).unwrap().is_some());
    assert_eq!(fs::read(&out).unwrap(), b"OUTPUT 1");
}

#[test]
fn an_output_edited_in_place_is_a_miss_at_once() {
    let place = Place::new();
    let store = place.store();
    let (key, artifact) = run(&store, 1);
    let out = place.path("out");
    store.materialize(&artifact, &out, How::Link).unwrap();
    edit_in_place(&out, b"OUTPUT 1");
    assert!(store.lookup(&key).unwrap().is_none());
}

#[test]
fn what_is_read_is_what_was_stored_or_an_error() {
    let place = Place::new();
    let store = place.store();
    let (_, artifact) = run(&store, 1);
    let path = store.path_of(artifact.digest());
    let corrupt = |what| {
        let result = store.read(&artifact);
        assert!(matches!(result, Err(anepipe_artifacts::StoreError::Corrupt { .. })), "{what}: {result:?}");
    };
    edit_in_place(&path, b"OUTPUT 1");
    corrupt("other bytes");
    edit_in_place(&path, b"OUT");
    corrupt("fewer bytes");
    fs::remove_file(&path).unwrap();
    corrupt("removed");
}

#[test]
fn a_touched_object_is_put_right() {
    let place = Place::new();
    let store = place.store();
    let (_, artifact) = run(&store, 1);
    let path = store.path_of(artifact.digest());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(damages(&store, Repair::No), [(artifact.digest().to_string(), Damage::Touched, true)]);
    assert_eq!(damages(&store, Repair::No), []);
}

#[test]
fn what_does_not_belong_is_set_aside() {
    let place = Place::new();
    let store = place.store();
    let (key, artifact) = run(&store, 1);
    let hex = artifact.digest().to_string();
    let elsewhere = format!("cache/cas/zz/{hex}");
    place.write(&elsewhere, b"output 1");
    place.write("cache/cas/00/notes.txt", b"");
    place.write("cache/ac/00/notes.txt", b"");
    place.write(&format!("cache/ac/{}/{key}.json", &key.to_string()[..2]), b"{}");
    let mut found: Vec<_> =
        damages(&store, Repair::SetAside).into_iter().map(|(_, damage, fixed)| (damage, fixed)).collect();
    found.sort_by_key(|(damage, _)| *damage == Damage::Record);
    assert_eq!(
        found,
        [(Damage::Stray, true), (Damage::Stray, true), (Damage::Stray, true), (Damage::Record, true)]
    );
    assert_eq!(
        store.read(&artifact).unwrap(),
        b"output 1",
        "the object in its right place was taken for the stray one"
    );
    assert_eq!(damages(&store, Repair::No), []);
}

#[test]
fn a_directory_that_lost_a_file_makes_its_record_incomplete() {
    let place = Place::new();
    let store = place.store();
    let part = store.put_bytes(b"part").unwrap();
    let mut tree = anepipe_artifacts::Tree::new();
    tree.insert_file("part", *part.digest(), part.size()).unwrap();
    let tree = store.put_tree(&tree).unwrap();
    let key = record(&store, 1, &[("dir", tree)]);
    fs::remove_file(store.path_of(part.digest())).unwrap();
    assert_eq!(damages(&store, Repair::No), [(format!("{key}.json"), Damage::Incomplete, false)]);
}
