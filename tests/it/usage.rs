//! What runs nothing, and what is refused before anything runs.

use crate::harness::{Place, Ran};

#[test]
fn every_command_explains_itself() {
    let commands: [&[&str]; 18] = [
        &[],
        &["build"],
        &["gate"],
        &["gate", "parity"],
        &["gate", "residency"],
        &["gate", "exact"],
        &["gate", "golden"],
        &["gate", "range"],
        &["generate"],
        &["bench"],
        &["explain"],
        &["graph"],
        &["cache"],
        &["cache", "gc"],
        &["cache", "verify"],
        &["inspect"],
        &["compile"],
        &["report"],
    ];
    let place = Place::new();
    for command in commands {
        let help = place.run(&[command, &["--help"]].concat()).expect_ok();
        assert!(help.stdout.contains("Usage: anepipe"), "{command:?}: {}", help.stdout);
    }
}

#[test]
fn a_dry_run_runs_nothing() {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    for _ in 0..2 {
        let ran = place.build(&model, &["--context", "64", "--dry-run"]).expect_ok();
        let actions = ran.json()["actions"].as_array().unwrap().clone();
        assert!(actions.iter().all(|action| action["would"] != "reuse"), "{actions:?}");
    }
    assert!(!place.path("out").exists());
}

#[test]
fn builds_that_cannot_begin() {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    std::fs::create_dir(place.path("out")).unwrap();
    std::fs::write(place.path("out/letter.txt"), "mine").unwrap();
    let foreign = place.build(&model, &["--context", "64"]).expect_code(2);
    assert!(foreign.stderr.contains("letter.txt"), "{}", foreign.stderr);
    assert_eq!(std::fs::read(place.path("out/letter.txt")).unwrap(), b"mine");

    std::fs::create_dir(place.path("venv")).unwrap();
    let mut build = place.build_command(&model, &["--context", "64"]);
    let python = Ran::of(build.env("ANEPIPE_PYTHON", place.path("venv"))).expect_code(30);
    assert!(python.stderr.contains("make setup"), "{}", python.stderr);

    std::fs::write(place.path("anepipe.toml"), "[build\n").unwrap();
    let config = place.build(&model, &[]).expect_code(2);
    assert!(config.stderr.contains("anepipe.toml"), "{}", config.stderr);
}

/// Said before a bundle is looked for: none of these folders is there.
#[cfg(not(target_vendor = "apple"))]
#[test]
fn devices_and_compilers_that_are_not_to_be_had_here() {
    let place = Place::new();
    let commands: [&[&str]; 5] = [
        &["gate", "parity"],
        &["gate", "exact"],
        &["gate", "golden"],
        &["generate", "--prompt", "text"],
        &["bench"],
    ];
    for command in commands {
        let run = |device: &str| {
            place.run(&[command, &["--bundle", "nowhere", "--device", device]].concat()).expect_code(2).stderr
        };
        let core_ml = run("coreml");
        assert!(
            core_ml.contains("run it on a Mac with Apple silicon and macOS 15"),
            "{command:?}: {core_ml}"
        );
        let unknown = run("ane");
        assert!(unknown.contains("there are `portable` and `coreml`"), "{command:?}: {unknown}");
    }
    let model = place.synth("model.gguf", |model| model);
    let apple = place.build(&model, &["--context", "64", "--compiler", "apple"]).expect_code(30);
    assert!(apple.stderr.contains("a part of Xcode, which runs on macOS only"), "{}", apple.stderr);
    assert!(!place.path("out").exists());
}
