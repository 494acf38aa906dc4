//! Several processes at one cache, and processes that die in the middle of their work.
//!
//! A child is this test binary itself, run with the name of [`as_a_child`] and told by its environment what to do.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anepipe_artifacts::{How, Repair, Store};

use crate::support::{Place, action, record, run};

const ROLE: &str = "ANEPIPE_TEST_ROLE";
const CACHE: &str = "ANEPIPE_TEST_CACHE";

/// A process that does `role` with the cache in `dir`.
pub(crate) fn child(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "children::as_a_child", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(CACHE, dir);
    command
}

/// The body of the child processes. Without a role, as in a normal run, there is nothing to do.
#[test]
fn as_a_child() {
    let (Ok(role), Some(dir)) = (std::env::var(ROLE), std::env::var_os(CACHE)) else { return };
    let dir = Path::new(&dir);
    match role.as_str() {
        "open" => println!("{:?}", Store::open(dir).err()),
        "look" => {
            let store = Store::open(dir).unwrap();
            let hits = (0..10).filter(|n| store.lookup(&action(*n).1).unwrap().is_some()).count();
            println!("{hits} hits, then {:?}", store.put_bytes(b"new").map_err(|e| e.to_string()));
        }
        "build" => {
            let store = Store::open(dir).unwrap();
            for n in 0..40 {
                build(&store, n);
            }
        }
        "build forever" => {
            let store = Store::open(dir).unwrap();
            let scratch = store.scratch("half done").unwrap();
            fs::write(scratch.path().join("half"), b"half").unwrap();
            // Each child has actions of its own, or the later ones would find everything done.
            for n in std::process::id() as usize * 10_000.. {
                println!("going on");
                build(&store, n);
            }
        }
        "fill" => {
            let store = Store::open(dir).unwrap();
            let error = (|| {
                let mut writer = store.blob_writer()?;
                let written = (0..4096).try_for_each(|n: u32| writer.write_all(&n.to_le_bytes().repeat(256)));
                written
                    .map_err(|source| anepipe_artifacts::StoreError::Io { doing: "write".into(), source })?;
                writer.finish()
            })();
            println!("written: {error:?}");
            println!("stored: {:?}", store.put_bytes(&vec![7; 4 << 20]).map_err(|e| e.to_string()));
            println!("small: {:?}", store.put_bytes(b"small"));
        }
        other => panic!("no such role: {other}"),
    }
}

/// Every way of writing: a directory out of a scratch, a streamed object, a record, an output.
fn build(store: &Store, n: usize) {
    let scratch = store.scratch("build").unwrap();
    let out = scratch.path().join("out");
    fs::create_dir(&out).unwrap();
    for part in 0..3 {
        fs::write(out.join(format!("part{part}")), format!("{n} {part}").repeat(1000)).unwrap();
    }
    let tree = store.ingest(&out).unwrap();
    let mut writer = store.blob_writer().unwrap();
    for word in 0..2000_usize {
        writer.write_all(&(word * n).to_le_bytes()).unwrap();
    }
    let blob = writer.finish().unwrap();
    record(store, n, &[("tree", tree), ("blob", blob)]);
    store.replace(&tree, &store.dir().with_extension("out"), How::Link).unwrap();
}

#[test]
fn a_process_killed_at_any_moment_leaves_a_sound_cache() {
    let place = Place::new();
    let cache = place.cache();
    let mut done = 0;
    for round in 0_u32..12 {
        let mut child = child("build forever", &cache).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
        let builds = lines.filter(|line| line.contains("going on")).take(1 + round as usize % 4).count();
        assert!(builds > 0, "the child did not start");
        std::thread::sleep(Duration::from_micros(u64::from(round) * 300));
        child.kill().unwrap();
        child.wait().unwrap();

        let store = place.store();
        let report = store.verify(Repair::No).unwrap();
        assert!(report.is_sound(), "round {round}: {:?}", report.findings);
        // Who announced an action had finished the one before.
        done += builds as u64 - 1;
        assert!(report.actions >= done, "round {round}: {} actions of {done}", report.actions);
        let left: Vec<_> =
            fs::read_dir(cache.join("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [] as [std::path::PathBuf; 0], "round {round}: left behind");
        let out = cache.with_extension("out");
        if out.exists() {
            assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "round {round}: half an output");
        }
    }
}

#[test]
fn a_live_process_keeps_its_scratch_when_others_come() {
    let place = Place::new();
    let store = place.store();
    let scratch = store.scratch("mine").unwrap();
    fs::write(scratch.path().join("file"), b"x").unwrap();
    let status = child("build", &place.cache()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    drop(place.store());
    assert!(scratch.path().join("file").exists());
}

#[test]
fn processes_that_build_the_same_do_not_hinder_each_other() {
    let place = Place::new();
    let children: Vec<_> =
        (0..3).map(|_| child("build", &place.cache()).stdout(Stdio::null()).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = place.store();
    assert!((0..40).all(|n| store.lookup(&action(n).1).unwrap().is_some()));
    assert!(store.verify(Repair::No).unwrap().findings.is_empty());
    // 40 directories of 3 files with a listing each, and 40 streamed objects.
    assert_eq!(store.stat().unwrap().objects, 40 * 5);
}

#[test]
fn threads_that_publish_the_same_agree() {
    let place = Place::new();
    let store = place.store();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..20).map(|n| run(&store, n)).collect::<Vec<_>>())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|result| *result == results[0]));
    assert!(results[0].iter().all(|(key, _)| store.lookup(key).unwrap().is_some()));
    assert!(store.verify(Repair::No).unwrap().findings.is_empty());
}
