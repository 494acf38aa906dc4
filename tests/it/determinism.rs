//! The same input gives the same bytes, in any process, on any day.

use std::process::Command;

use crate::harness::{Place, Ran};

/// The manifest of a fresh build, in which every digest stands, by a command that `change` has changed.
fn manifest(change: impl FnOnce(Command) -> Command) -> Vec<u8> {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    Ran::of(&mut change(place.build_command(&model, &["--context", "64"]))).expect_ok();
    std::fs::read(place.path("out/manifest.json")).unwrap()
}

#[test]
fn fresh_builds_ship_the_same_manifest_whatever_the_seed_of_hashes() {
    let [one, other] = ["1", "31337"].map(|seed| {
        manifest(|mut build| {
            build.env("PYTHONHASHSEED", seed);
            build
        })
    });
    assert!(one == other, "two builds of one model differ");
}

#[test]
fn fresh_builds_ship_the_same_manifest_whatever_the_date() {
    if Command::new("faketime").arg("--version").output().is_err() {
        eprintln!("skipped: faketime absent");
        return;
    }
    let today = manifest(|build| build);
    let another_day = manifest(|build| {
        let mut faked = Command::new("faketime");
        faked.args(["-f", "@2031-02-03 04:05:06"]).arg(build.get_program()).args(build.get_args());
        faked.current_dir(build.get_current_dir().unwrap());
        for (name, value) in build.get_envs() {
            match value {
                Some(value) => faked.env(name, value),
                None => faked.env_remove(name),
            };
        }
        faked
    });
    assert!(today == another_day, "the date is in what was built");
}
