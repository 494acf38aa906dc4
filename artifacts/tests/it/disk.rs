//! No room left: a clear error, no partial object, and a cache that works again.

use std::path::Path;
use std::process::Command;

use anepipe_artifacts::{Repair, Store, StoreError};

use crate::children::child;
use crate::support::Place;

/// A file system of 256 KiB, unmounted on drop.
struct Tiny<'a>(&'a Path);

impl<'a> Tiny<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Tiny<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_a_clear_error() {
    let place = Place::new();
    let at = place.path("tiny");
    let Some(_tiny) = Tiny::mount(&at) else {
        println!("skipped: only root can mount a tiny file system");
        return;
    };
    let store = Store::open(at.join("cache")).unwrap();
    let small = store.put_bytes(b"small").unwrap();
    let error = store.put_bytes(&vec![7; 1 << 20]).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("no space left"), "{error}");
    let big = place.write("big", &vec![8; 1 << 20]);
    assert!(matches!(store.import(&big), Err(StoreError::Full { .. })));
    let elsewhere = place.store();
    let big = elsewhere.import(&big).unwrap();
    let out = at.join("out");
    let error = elsewhere.materialize(&big, &out, anepipe_artifacts::How::Link).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(!out.exists());

    let report = store.verify(Repair::No).unwrap();
    assert!(report.findings.is_empty() && report.objects == 1, "{report:?}");
    let left = store.stat().unwrap().scratch_bytes;
    assert_eq!(left, 0, "the failed writes left {left} bytes");
    assert_eq!(store.read(&small).unwrap(), b"small");
    assert!(store.put_bytes(&vec![9; 64 << 10]).is_ok());
}

/// The same where nobody is root: the limit on the size of a file, which the shell sets and lets the child survive.
#[test]
fn a_write_cut_short_leaves_no_object() {
    let place = Place::new();
    let told = child("fill", &place.cache());
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\"", "sh"]).arg(told.get_program());
    command.args(told.get_args());
    command.envs(told.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("written: Err"), "{said}");
    assert!(said.contains("stored: Err(\"writing an object: no space left"), "{said}");
    assert!(said.contains("small: Ok"), "{said}");
    let report = place.store().verify(Repair::No).unwrap();
    assert!(report.findings.is_empty() && report.objects == 1, "{report:?}");
}
