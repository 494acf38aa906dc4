//! Actions: recorded, found again, and never found broken.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use anepipe_artifacts::{Artifact, Digest, Key, StoreError, Tree, explain};
use serde_json::Value;

use crate::support::{Place, action, forge_time, record, run};

#[test]
fn a_recorded_action_is_found_by_another_process() {
    let place = Place::new();
    let (key, artifact) = run(&place.store(), 1);
    let store = place.store();
    let found = store.lookup(&key).unwrap().unwrap();
    assert_eq!(found.outputs["out"], artifact);
    assert_eq!((found.stage.as_str(), found.subject.as_str()), ("stage", "subject 1"));
    assert_eq!(found.key_manifest, action(1).0.to_value());
    assert_eq!(store.read(&artifact).unwrap(), b"output 1");
    assert!(store.lookup(&action(2).1).unwrap().is_none());
}

#[test]
fn an_object_is_named_by_its_content_and_read_only() {
    let place = Place::new();
    let store = place.store();
    let artifact = store.put_bytes(b"abc").unwrap();
    let path = store.path_of(artifact.digest());
    let hex = Digest::of_bytes(b"abc").to_string();
    assert_eq!(path, place.cache().join("cas").join(&hex[..2]).join(&hex));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o444);
    assert_eq!(store.put_bytes(b"abc").unwrap(), artifact);
}

#[test]
fn a_record_with_anything_less_than_whole_objects_is_a_miss() {
    type Harm = fn(&std::path::Path);
    let harms: [(&str, Harm); 6] = [
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("emptied", |path| truncate(path, 0)),
        ("half written", |path| truncate(path, 3)),
        ("half written, with its time kept", |path| {
            let time = fs::metadata(path).unwrap().modified().unwrap();
            truncate(path, 3);
            fs::File::open(path).unwrap().set_modified(time).unwrap();
        }),
        ("longer", |path| append(path)),
        ("other bytes of the same size", |path| {
            fs::remove_file(path).unwrap();
            fs::write(path, b"OUTPUT 1").unwrap();
        }),
    ];
    for (what, harm) in harms {
        let place = Place::new();
        let (key, artifact) = run(&place.store(), 1);
        let store = place.store();
        harm(&store.path_of(artifact.digest()));
        assert!(store.lookup(&key).unwrap().is_none(), "{what}: a hit");
        // Running it again puts it right, in the same process and for the next.
        assert_eq!(run(&store, 1), (key, artifact), "{what}");
        assert!(store.lookup(&key).unwrap().is_some(), "{what}: still a miss");
        drop(store);
        let store = place.store();
        assert!(store.lookup(&key).unwrap().is_some(), "{what}: a miss for the next");
        assert_eq!(store.read(&artifact).unwrap(), b"output 1", "{what}");
    }
}

#[test]
fn a_file_of_a_stored_directory_counts_too() {
    let place = Place::new();
    let store = place.store();
    let part = store.put_bytes(b"part").unwrap();
    let mut tree = Tree::new();
    tree.insert_file("a/part", *part.digest(), part.size()).unwrap();
    let tree = store.put_tree(&tree).unwrap();
    let key = record(&store, 1, &[("dir", tree)]);
    assert!(store.lookup(&key).unwrap().is_some());
    fs::remove_file(store.path_of(part.digest())).unwrap();
    assert!(store.lookup(&key).unwrap().is_none());
}

#[test]
fn a_copied_cache_is_trusted_after_a_look_at_its_content() {
    let place = Place::new();
    let (key, artifact) = run(&place.store(), 1);
    let store = place.store();
    let path = store.path_of(artifact.digest());
    fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    assert!(store.lookup(&key).unwrap().is_some());
    assert_eq!(fs::metadata(&path).unwrap().mtime(), 315_619_200, "the time was not put right");
}

#[test]
fn a_damaged_record_is_a_miss() {
    let place = Place::new();
    let (key, artifact) = run(&place.store(), 1);
    let (other, _) = run(&place.store(), 2);
    let store = place.store();
    let path = |key: &Key| record_path(&place, key);
    let whole = fs::read(path(&key)).unwrap();
    let foreign = fs::read(path(&other)).unwrap();
    let newer =
        String::from_utf8(whole.clone()).unwrap().replace(r#""schema":1"#, r#""schema":2"#).into_bytes();
    let cut = (0..whole.len()).step_by(17).map(|n| whole[..n].to_vec());
    for bytes in cut.chain([foreign, newer, vec![0; whole.len()], b"[[[".repeat(100_000)]) {
        fs::write(path(&key), &bytes).unwrap();
        assert!(store.lookup(&key).unwrap().is_none(), "{} bytes were taken", bytes.len());
    }
    record(&store, 1, &[("out", artifact)]);
    assert!(store.lookup(&key).unwrap().is_some());
}

#[test]
fn a_record_that_cannot_be_right_is_refused() {
    let place = Place::new();
    let store = place.store();
    let (manifest, key) = action(1);
    let outputs = |artifact| [("out".to_owned(), artifact)].into();
    let record = |artifact| {
        anepipe_artifacts::ActionRecord::new(&manifest, "s", outputs(artifact), std::time::Duration::ZERO)
    };
    let here = store.put_bytes(b"here").unwrap();
    let absent = Artifact::Blob { digest: Digest::of_bytes(b"absent"), size: 6 };
    let bad = |result| assert!(matches!(result, Err(StoreError::BadRecord { .. })), "{result:?}");
    bad(store.record(&key, &record(absent)));
    bad(store.record(&action(2).1, &record(here)));
    bad(store.record(&key, &anepipe_artifacts::ActionRecord { seconds: f64::NAN, ..record(here) }));
    store.record(&key, &record(here)).unwrap();
}

#[test]
fn a_number_in_the_manifest_survives_being_read_back() {
    let place = Place::new();
    let store = place.store();
    // Off by a bit in a fast JSON reader, and then the record would not match its key.
    let manifest = anepipe_artifacts::KeyManifest::new("s", 1).parameter("x", 7.538_912_374_196_123e224);
    let record = anepipe_artifacts::ActionRecord::new(&manifest, "", [].into(), std::time::Duration::ZERO);
    store.record(&manifest.key(), &record).unwrap();
    assert!(store.lookup(&manifest.key()).unwrap().is_some());
}

#[test]
fn the_last_run_tells_why_an_action_runs_again() {
    let place = Place::new();
    let store = place.store();
    let manifest = |block: u32| anepipe_artifacts::KeyManifest::new("graph", 1).parameter("block", block);
    let ran = |store: &anepipe_artifacts::Store, block| {
        let manifest = manifest(block);
        let record =
            anepipe_artifacts::ActionRecord::new(&manifest, "x", [].into(), std::time::Duration::ZERO);
        store.record(&manifest.key(), &record).unwrap();
    };
    let why = |store: &anepipe_artifacts::Store, block| {
        let last = store.last_run("graph", "x").unwrap().map_or(Value::Null, |last| last.key_manifest);
        explain(&last, &manifest(block).to_value()).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(why(&store, 4), ["no result in the cache"]);
    ran(&store, 4);
    assert_eq!(why(&store, 8), ["parameter `block` changed: 4 to 8"]);
    ran(&store, 8);
    drop(store);
    let store = place.store();
    assert_eq!(why(&store, 2), ["parameter `block` changed: 8 to 2"]);
    // A hit is what the user had last, too; a dry run is not.
    store.peek(&manifest(4).key()).unwrap().unwrap();
    assert_eq!(why(&store, 2), ["parameter `block` changed: 8 to 2"]);
    store.lookup(&manifest(4).key()).unwrap().unwrap();
    drop(store);
    assert_eq!(why(&place.store(), 2), ["parameter `block` changed: 4 to 2"]);
    assert_eq!(place.store().last_run("graph", "y").unwrap(), None);
}

/// Makes a record look like one of before the machine was switched off.
fn before_another_boot(path: &std::path::Path) {
    let mode = fs::metadata(path).unwrap().permissions();
    let mut envelope: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    envelope["boot"] = "another boot".into();
    fs::remove_file(path).unwrap();
    fs::write(path, envelope.to_string()).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

/// Makes an object look like one whose data were lost while its size was kept, as file systems may do without power.
fn tear(store: &anepipe_artifacts::Store, artifact: &Artifact) {
    let object = store.path_of(artifact.digest());
    let like = store.put_bytes(b"like").unwrap();
    fs::remove_file(&object).unwrap();
    fs::write(&object, vec![0; artifact.size() as usize]).unwrap();
    forge_time(&object, &store.path_of(like.digest()));
}

fn record_path(place: &Place, key: &Key) -> std::path::PathBuf {
    let hex = key.to_string();
    place.cache().join("ac").join(&hex[..2]).join(format!("{hex}.json"))
}

#[test]
fn what_was_not_flushed_is_hashed_after_a_loss_of_power() {
    let place = Place::new();
    let (key, artifact) = run(&place.store(), 1);
    let path = record_path(&place, &key);

    // Whole: a hit, and trusted from then on.
    before_another_boot(&path);
    assert!(place.store().lookup(&key).unwrap().is_some());
    assert!(!fs::read_to_string(&path).unwrap().contains("another boot"));

    // Torn: a miss, and an action that gives the same object does not take the torn one for it.
    before_another_boot(&path);
    tear(&place.store(), &artifact);
    assert!(place.store().peek(&key).unwrap().is_none());
    tear_again_and_store(&place, &artifact);
}

fn tear_again_and_store(place: &Place, artifact: &Artifact) {
    type Way = fn(&anepipe_artifacts::Store) -> Artifact;
    let ways: [Way; 3] = [
        |store| store.put_bytes(b"output 1").unwrap(),
        |store| {
            let mut writer = store.blob_writer().unwrap();
            writer.write_all(b"output 1").unwrap();
            writer.finish().unwrap()
        },
        |store| {
            let scratch = store.scratch("s").unwrap();
            fs::write(scratch.path().join("out"), b"output 1").unwrap();
            store.ingest(&scratch.path().join("out")).unwrap()
        },
    ];
    for store_it in ways {
        place.store().put_bytes(b"output 1").unwrap();
        tear(&place.store(), artifact);
        let store = place.store();
        assert_eq!(store_it(&store), *artifact);
        assert_eq!(store.read(artifact).unwrap(), b"output 1");
    }
}

#[test]
fn what_was_flushed_is_trusted_after_a_loss_of_power() {
    let place = Place::new();
    let store = place.store();
    let (key, _) = run(&store, 1);
    let path = record_path(&place, &key);
    assert_ne!(fs::metadata(&path).unwrap().mode() & 0o222, 0);
    store.settle().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o222, 0);
    before_another_boot(&path);
    store.lookup(&key).unwrap().unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("another boot"), "it was hashed and written again");
    // An action that runs again, as when it is forced, is unflushed again.
    run(&store, 1);
    assert_ne!(fs::metadata(&path).unwrap().mode() & 0o222, 0);
    // What another process of this boot has not flushed, the next build does.
    drop(store);
    let store = place.store();
    store.lookup(&key).unwrap().unwrap();
    store.settle().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o222, 0);
}

fn truncate(path: &std::path::Path, length: u64) {
    writable(path).set_len(length).unwrap();
}

fn append(path: &std::path::Path) {
    writable(path).write_all(b"more").unwrap();
}

fn writable(path: &std::path::Path) -> fs::File {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::OpenOptions::new().append(true).open(path).unwrap()
}
