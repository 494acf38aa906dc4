//! Builds that are cut off: by a full disk, by a signal. What was whole stays, what was half done is nowhere to be seen.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Place, Ran, demo_model};

const OPTIONS: [&str; 4] = ["--topology", "1+1", "--context", "64"];

/// A file system of a few bytes, unmounted on drop.
struct Tiny<'a>(&'a Path);

impl<'a> Tiny<'a> {
    /// Needs root; says so where it is missing.
    fn mount(at: &'a Path, kib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={kib}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("skipped: only root can mount a tiny file system");
        }
        mounted.then_some(Self(at))
    }
}

impl Drop for Tiny<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_store_that_runs_full_is_said_so_and_stays_sound() {
    let place = Place::new();
    let store = place.path("store");
    // Room for nothing; for some layers; for nearly all.
    for kib in [64, 600, 1200] {
        let Some(_tiny) = Tiny::mount(&store, kib) else { return };
        let ran = place.build(&demo_model(), &["--context", "64"]).expect_code(43);
        for word in ["o space left", "--cache-dir"] {
            assert!(ran.stderr.contains(word), "{kib} KiB: no {word:?} in {}", ran.stderr);
        }
        assert!(!place.path("out").exists(), "{kib} KiB: an output was left");
        if kib > 64 {
            place.assert_sound();
        }
    }
    place.build(&demo_model(), &["--context", "64"]).expect_ok();
}

#[test]
fn an_output_that_has_no_room_is_not_there() {
    let place = Place::new();
    let small = place.path("small");
    let Some(_tiny) = Tiny::mount(&small, 64) else { return };
    let model = place.synth("model.gguf", |model| model);
    let mut build = place.command(&["build", "--out", "small/out", "--context", "64", "--model"]);
    let ran = Ran::of(build.arg(&model)).expect_code(43);
    assert!(ran.stderr.contains("o space left"), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(&small).unwrap().count(), 0, "a half bundle was left");
    place.assert_sound();
}

#[test]
fn a_killed_build_loses_only_what_it_was_at() {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    let expected = {
        let undisturbed = Place::new();
        undisturbed.build(&model, &OPTIONS).expect_ok();
        std::fs::read(undisturbed.path("out/manifest.json")).unwrap()
    };
    // After so many actions have ended the build is killed; the next one finds what the last one finished.
    for ended in [1, 4, 9] {
        let log = place.path("events.ndjson");
        let _ = std::fs::remove_file(&log);
        let mut build = place.build_command(&model, &OPTIONS);
        build.arg("--events").arg(&log).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = build.spawn().unwrap();
        let finished = || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines().filter(|line| line.contains("\"finished\"")).count()
        };
        let patience = Instant::now() + Duration::from_mins(1);
        while finished() < ended && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < patience, "the build stands still");
            std::thread::sleep(Duration::from_millis(1));
        }
        // SIGKILL; a build that was quicker has ended by itself, and the rest must hold all the same.
        let _ = child.kill();
        child.wait().unwrap();
        place.assert_sound();
    }
    let rest = place.build(&model, &OPTIONS).expect_ok();
    assert!(rest.count("cached") >= 9, "{}", rest.stdout);
    assert!(std::fs::read(place.path("out/manifest.json")).unwrap() == expected, "another bundle");
    let again = place.build(&model, &OPTIONS).expect_ok();
    assert_eq!(again.count("ran"), 0);
}
