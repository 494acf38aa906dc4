//! Garbage collection.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use anepipe_artifacts::{GcOptions, Key, Repair, Store, StoreError, Target, Tree};
use proptest::prelude::*;

use crate::support::{Place, action, record, run};

const HOUR: Duration = Duration::from_hours(1);

fn all_that_fits(budget: u64) -> GcOptions {
    GcOptions { budget: Some(budget), grace: Duration::ZERO, dry_run: false }
}

/// Makes an action look last used so many hours ago.
fn age(place: &Place, key: &Key, hours: u32) {
    let hex = key.to_string();
    let path = place.cache().join("ac").join(&hex[..2]).join(format!("{hex}.json"));
    fs::File::open(path).unwrap().set_modified(SystemTime::now() - HOUR * hours).unwrap();
}

fn hits(store: &Store, keys: &[Key]) -> Vec<usize> {
    (0..keys.len()).filter(|n| store.peek(&keys[*n]).unwrap().is_some()).collect()
}

#[test]
fn the_least_recently_used_goes_first() {
    let place = Place::new();
    let mut store = place.store();
    let keys: Vec<_> = (0..4).map(|n| run(&store, n).0).collect();
    for (key, hours) in keys.iter().zip([5, 1, 9, 3]) {
        age(&place, key, hours);
    }
    // A lookup is a use.
    store.lookup(&keys[2]).unwrap().unwrap();
    let record = store.gc(&GcOptions { budget: None, ..all_that_fits(0) }).unwrap().bytes_kept / 4;
    let dry = store.gc(&GcOptions { dry_run: true, ..all_that_fits(2 * record + 10) }).unwrap();
    assert_eq!(hits(&store, &keys), [0, 1, 2, 3], "a dry run removed something");
    let report = store.gc(&all_that_fits(2 * record + 10)).unwrap();
    assert_eq!(report, dry);
    assert_eq!(hits(&store, &keys), [1, 2]);
    assert_eq!((report.actions_kept, report.actions_removed, report.objects_removed), (2, 2, 2));
    assert!(report.bytes_kept <= 2 * record + 10);
}

#[test]
fn nothing_older_stays_in_place_of_what_did_not_fit() {
    let place = Place::new();
    let mut store = place.store();
    let sizes = [10, 100_000, 10];
    let keys: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(n, size)| {
            let key = record(&store, n, &[("out", store.put_bytes(&vec![n as u8; *size]).unwrap())]);
            age(&place, &key, 1 + n as u32);
            key
        })
        .collect();
    let report = store.gc(&all_that_fits(50_000)).unwrap();
    assert_eq!((hits(&store, &keys), report.actions_removed), (vec![0], 2));
}

#[test]
fn pins_and_grace_are_stronger_than_the_budget() {
    let place = Place::new();
    let mut store = place.store();
    let keys: Vec<_> = (0..4).map(|n| run(&store, n).0).collect();
    for key in &keys {
        age(&place, key, 48);
    }
    age(&place, &keys[3], 2);
    let loose = store.put_bytes(b"loose").unwrap();
    let mut tree = Tree::new();
    tree.insert_file("file", *loose.digest(), loose.size()).unwrap();
    let tree = store.put_tree(&tree).unwrap();
    store.pin("action", Target::Action(keys[1])).unwrap();
    store.pin("dir", Target::Artifact(tree)).unwrap();
    let in_grace = GcOptions { grace: HOUR * 24, ..all_that_fits(0) };
    let report = store.gc(&in_grace).unwrap();
    assert_eq!(hits(&store, &keys), [1, 3]);
    assert_eq!(report.bytes_protected, report.bytes_kept);
    store.gc(&all_that_fits(0)).unwrap();
    assert_eq!(hits(&store, &keys), [1]);
    assert_eq!(store.read(&loose).unwrap(), b"loose");
    assert!(store.unpin("action").unwrap() && store.unpin("dir").unwrap());
    store.gc(&all_that_fits(0)).unwrap();
    assert_eq!((store.stat().unwrap().actions, store.stat().unwrap().objects), (0, 0));
}

#[test]
fn what_nothing_refers_to_goes_after_its_grace() {
    let place = Place::new();
    let mut store = place.store();
    let (key, _) = run(&store, 1);
    store.put_bytes(b"orphan").unwrap();
    place.write("cache/quarantine/old", b"damaged");
    store.gc(&GcOptions { budget: None, grace: HOUR, dry_run: false }).unwrap();
    assert_eq!(store.stat().unwrap().objects, 2);
    assert_eq!(store.stat().unwrap().quarantine_bytes, 7);
    store.gc(&GcOptions { budget: None, grace: Duration::ZERO, dry_run: false }).unwrap();
    assert_eq!(store.stat().unwrap().objects, 1);
    assert_eq!(store.stat().unwrap().quarantine_bytes, 0);
    assert!(store.lookup(&key).unwrap().is_some());
}

#[test]
fn a_record_without_its_objects_goes() {
    let place = Place::new();
    let mut store = place.store();
    let (_, artifact) = run(&store, 1);
    let posing = store.put_bytes(b"{}").unwrap();
    let (broken, _) = run(&store, 2);
    let hex = broken.to_string();
    place.write(&format!("cache/ac/{}/{hex}.json", &hex[..2]), b"half a rec");
    let report = store.gc(&GcOptions { budget: None, grace: Duration::ZERO, dry_run: false }).unwrap();
    assert_eq!((report.actions_kept, report.actions_removed), (1, 1));
    assert!(store.read(&artifact).is_ok() && store.read(&posing).is_err());
}

#[test]
fn pins_have_names_and_targets_that_exist() {
    let place = Place::new();
    let store = place.store();
    let (key, artifact) = run(&store, 1);
    for name in ["", ".hidden", "../out", "a/b", "ü", &"x".repeat(65)] {
        let result = store.pin(name, Target::Action(key));
        assert!(matches!(result, Err(StoreError::Refused { .. })), "{name:?}: {result:?}");
    }
    assert!(matches!(store.pin("x", Target::Action(action(9).1)), Err(StoreError::Refused { .. })));
    store.pin("b", Target::Action(key)).unwrap();
    store.pin("a", Target::Action(key)).unwrap();
    store.pin("a", Target::Artifact(artifact)).unwrap();
    let pins: Vec<_> = store.pins().unwrap().into_iter().map(|pin| (pin.name, pin.target)).collect();
    assert_eq!(pins, [("a".to_owned(), Target::Artifact(artifact)), ("b".to_owned(), Target::Action(key))]);
    assert!(store.unpin("a").unwrap() && !store.unpin("a").unwrap());
}

#[test]
fn nothing_is_collected_while_a_pin_cannot_be_read() {
    let place = Place::new();
    let mut store = place.store();
    let (key, _) = run(&store, 1);
    place.write("cache/pins/broken.json", b"{");
    assert!(matches!(store.gc(&all_that_fits(0)), Err(StoreError::Corrupt { .. })));
    assert!(store.lookup(&key).unwrap().is_some());
}

/// Bytes of all files below `dir`.
fn files(dir: &std::path::Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return fs::metadata(dir).map_or(0, |meta| meta.len()) };
    entries.map(|entry| files(&entry.unwrap().path())).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Over random actions that share objects, ages, pins, grace and budget: what must stay stays, whole; what goes is not more
    /// recent than what stays; the budget holds unless what is protected exceeds it; nothing unreferred is left.
    #[test]
    fn keeps_what_it_must_within_the_budget(
        actions in prop::collection::vec((prop::collection::btree_set(0_u8..6, 0..4), 1_u32..100, any::<bool>()), 1..8),
        grace in 0_u32..100,
        budget in 0_u64..6000,
    ) {
        let place = Place::new();
        let mut store = place.store();
        let mut keys = Vec::new();
        for (n, (objects, age_hours, pinned)) in actions.iter().enumerate() {
            let outputs: Vec<_> = objects
                .iter()
                .map(|object| (object.to_string(), store.put_bytes(&[*object; 1].repeat(100 << object)).unwrap()))
                .collect();
            let mut outputs: Vec<_> = outputs.iter().map(|(name, artifact)| (name.as_str(), *artifact)).collect();
            // One of them under a second name.
            outputs.extend(outputs.first().map(|(_, artifact)| ("again", *artifact)));
            let key = record(&store, n, &outputs);
            age(&place, &key, *age_hours);
            if *pinned && n.is_multiple_of(3) {
                store.pin(&format!("pin{n}"), Target::Action(key)).unwrap();
            }
            keys.push(key);
        }
        let protected = |n: usize| {
            let (_, age_hours, pinned) = actions[n];
            pinned && n.is_multiple_of(3) || grace > 0 && age_hours <= grace
        };
        // The objects' own age is of this second, and not what is tested here.
        let options = GcOptions { budget: Some(budget), grace: HOUR * grace, dry_run: false };
        let report = store.gc(&options).unwrap();
        let kept: BTreeSet<_> = hits(&store, &keys).into_iter().collect();
        prop_assert_eq!(kept.len() as u64, report.actions_kept);
        prop_assert!((0..actions.len()).filter(|n| protected(*n)).all(|n| kept.contains(&n)), "a protected action went");
        let (stay, gone): (Vec<_>, Vec<_>) =
            (0..actions.len()).filter(|n| !protected(*n)).partition(|n| kept.contains(n));
        for n in &stay {
            prop_assert!(gone.iter().all(|m| actions[*m].1 >= actions[*n].1), "an older action stayed");
        }
        prop_assert!(report.bytes_kept <= budget.max(report.bytes_protected), "{:?}", report);
        let records: u64 = files(&place.cache().join("ac"));
        prop_assert_eq!(report.bytes_kept, store.stat().unwrap().bytes + records);
        let needed: BTreeSet<_> = kept.iter().flat_map(|n| &actions[*n].0).collect();
        prop_assert_eq!(store.stat().unwrap().objects, needed.len() as u64);
        prop_assert!(store.verify(Repair::No).unwrap().findings.is_empty());
    }
}
