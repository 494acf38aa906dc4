//! The index is disposable: whatever happens to it, builds go on and find what they knew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Place, action, run};

/// A cache with an index that has something in it.
fn indexed() -> Place {
    let place = Place::new();
    for round in 0..2 {
        let store = place.store();
        for n in 0..20 {
            run(&store, n + round);
        }
        let file = place.write("input", b"input");
        store.digest_of_input(&file).unwrap();
    }
    assert!(place.cache().join("index/db").exists());
    place
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files
}

/// What the last run of each subject must be, whatever the index says.
fn knows_everything(place: &Place, what: &str) {
    let store = place.store();
    for n in 0..21 {
        let last = store.last_run("stage", &format!("subject {n}")).unwrap();
        assert_eq!(last.map(|last| last.key), Some(action(n).1), "{what}: subject {n}");
        assert!(store.lookup(&action(n).1).unwrap().is_some(), "{what}");
    }
    let input = place.write("input", b"other");
    let expected = anepipe_artifacts::Digest::of_bytes(b"other");
    assert_eq!(store.digest_of_input(&input).unwrap().0, expected, "{what}");
}

#[test]
fn survives_every_kind_of_damage() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 8] = [
        ("emptied snapshots", |dir| {
            files(dir).iter().filter(|path| path.to_string_lossy().contains("snap.")).for_each(|path| {
                fs::write(path, b"").unwrap();
            });
        }),
        ("a halved database", |dir| {
            let file = fs::OpenOptions::new().write(true).open(dir.join("db")).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
        ("an emptied database", |dir| fs::write(dir.join("db"), b"").unwrap()),
        ("noise in the database", |dir| {
            let mut bytes = fs::read(dir.join("db")).unwrap();
            bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
            fs::write(dir.join("db"), bytes).unwrap();
        }),
        ("noise everywhere", |dir| files(dir).iter().for_each(|path| fs::write(path, [0x5a; 4096]).unwrap())),
        ("no snapshots", |dir| {
            files(dir)
                .iter()
                .filter(|path| path.to_string_lossy().contains("snap."))
                .for_each(|path| fs::remove_file(path).unwrap());
        }),
        ("a file in its place", |dir| {
            fs::remove_dir_all(dir).unwrap();
            fs::write(dir, b"not a directory").unwrap();
        }),
        ("gone", |dir| fs::remove_dir_all(dir).unwrap()),
    ];
    for (what, harm) in harms {
        let place = indexed();
        harm(&place.cache().join("index"));
        knows_everything(&place, what);
        // Afterwards there is an index again that works.
        knows_everything(&place, &format!("after {what}"));
        assert!(place.cache().join("index/db").exists(), "{what}: no index was made");
    }
}

#[test]
fn a_build_does_without_an_index_that_another_process_holds() {
    let place = indexed();
    let held = sled::open(place.cache().join("index")).unwrap();
    let started = Instant::now();
    knows_everything(&place, "held");
    run(&place.store(), 100);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    drop(held);
    assert!(!place.cache().join("quarantine").exists(), "an index in use was moved away");
    knows_everything(&place, "released");

    let lock = fs::File::open(place.cache().join("index.lock")).unwrap();
    lock.lock().unwrap();
    knows_everything(&place, "locked");
}

#[test]
fn what_this_process_found_is_later_than_any_record() {
    let place = Place::new();
    let manifest = |n: usize| anepipe_artifacts::KeyManifest::new("stage", 1).parameter("n", n);
    let store = place.store();
    for n in 0..2 {
        let record = anepipe_artifacts::ActionRecord::new(&manifest(n), "x", [].into(), Duration::ZERO);
        store.record(&manifest(n).key(), &record).unwrap();
        // More than a tick of the file system's clock.
        std::thread::sleep(Duration::from_millis(20));
    }
    let last = |store: &anepipe_artifacts::Store| store.last_run("stage", "x").unwrap().unwrap().key;
    drop(store);
    fs::remove_dir_all(place.cache().join("index")).unwrap();
    assert_eq!(last(&place.store()), manifest(1).key(), "of two records not the later one");
    fs::remove_dir_all(place.cache().join("index")).unwrap();
    let store = place.store();
    store.lookup(&manifest(0).key()).unwrap().unwrap();
    assert_eq!(last(&store), manifest(0).key());
}

#[test]
fn processes_share_what_they_know() {
    let place = Place::new();
    let [one, two] = [place.store(), place.store()];
    run(&one, 1);
    run(&two, 2);
    drop(one);
    drop(two);
    let store = place.store();
    for n in [1, 2] {
        assert!(store.last_run("stage", &format!("subject {n}")).unwrap().is_some());
    }
}
