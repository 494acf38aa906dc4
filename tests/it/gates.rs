//! A wrong graph does not ship, and its report says which tokens are wrong.

use serde_json::Value;

use crate::harness::{Place, Ran, demo_model, started};

/// What a gate that looks at all tokens together would be content with.
const AGGREGATE_LIMIT: f64 = 0.9;

fn build_without_permute(place: &Place) -> Ran {
    let mut build = place.build_command(&demo_model(), &["--layers", "0..1", "--context", "256"]);
    Ran::of(build.env("ANEPIPE_FAULT", "no-permute"))
}

#[test]
fn mixed_up_slots_stop_the_ship_and_the_report_names_the_tokens() {
    let place = Place::new();
    let built = build_without_permute(&place).expect_code(20);
    let summary = built.json();
    assert_eq!((&summary["result"], &summary["bundle"]), (&Value::from("failed"), &Value::Null));
    assert!(!place.path("out").exists(), "a bundle that failed its gate was written");

    let failure = &summary["failures"][0];
    assert_eq!(
        (&failure["stage"], &failure["subject"]),
        (&Value::from("parity"), &Value::from("layers 0..1"))
    );
    let message = failure["error"].as_str().unwrap();
    assert!(message.contains("slot") && message.contains("tokens 1, 2, 3"), "{message}");

    let stored = std::fs::read(failure["report"].as_str().unwrap()).unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    let report = stored.get("report").unwrap_or(&stored);
    let failing: Vec<&Value> =
        report["checks"].as_array().unwrap().iter().filter(|check| check["pass"] == false).collect();
    assert!(failing.iter().all(|check| !check["failing_tokens"].as_array().unwrap().is_empty()));

    // On real token embeddings, one aggregate cosine would have let this through.
    let passed_by_aggregate = failing.iter().find(|check| {
        check["input"] == "token embeddings" && check["seq_vs_block_cos"].as_f64().unwrap() >= AGGREGATE_LIMIT
    });
    assert!(passed_by_aggregate.is_some(), "{report:#}");
}

#[test]
fn a_gate_that_failed_fails_again_without_running_again() {
    let place = Place::new();
    let first = build_without_permute(&place).expect_code(20);
    let second = build_without_permute(&place).expect_code(20);
    assert_eq!((second.count("ran"), second.count("failed")), (0, 1));
    let (first, second) = (first.json(), second.json());
    assert_eq!(first["failures"], second["failures"]);
    place.assert_sound();
}

/// Consistent with itself and wrong: every shard gate passes, and only a look at the model file tells.
#[test]
fn a_rotary_width_that_was_assumed_passes_every_shard_gate_and_stops_at_the_golden_gate() {
    let place = Place::new();
    let log = place.path("events.ndjson");
    let mut build = place.build_command(&demo_model(), &["--context", "256", "--events"]);
    let built = Ran::of(build.arg(&log).env("ANEPIPE_FAULT", "rope-head-dim")).expect_code(22);
    assert!(!place.path("out").exists());
    let failures = built.json()["failures"].as_array().unwrap().clone();
    let stages: Vec<&Value> = failures.iter().map(|failure| &failure["stage"]).collect();
    assert_eq!(stages, ["golden"], "{failures:?}");
    assert!(started(&log).contains("parity layers 0..4"));
    let message = failures[0]["error"].as_str().unwrap();
    assert!(message.contains("do not compute what the model file says"), "{message}");
}

#[test]
fn the_golden_gate_tells_a_bundle_of_another_model() {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    place.build(&model, &["--context", "64"]).expect_ok();
    let gate =
        |model: &str| place.run(&["gate", "golden", "--bundle", "out", "--model", model, "--format", "json"]);
    assert_eq!(gate("model.gguf").expect_ok().json()["pass"], true);
    place.synth("other.gguf", |model| model.with_key("phi3.rope.freq_base", 500_000.0_f32));
    let other = gate("other.gguf").expect_code(22);
    assert_eq!(other.json()["pass"], false);
    assert!(other.stderr.contains("golden gate did not pass"), "{}", other.stderr);
}

#[test]
fn a_prediction_says_so_and_is_no_measurement() {
    let place = Place::new();
    let summary = place.build(&demo_model(), &["--context", "256"]).expect_ok().json();
    let warnings = summary["warnings"].as_array().unwrap();
    // The demo's head is 0.4 MB; programs under 1 MB are expected to run on the CPU.
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0]["reason"].as_str().unwrap().starts_with("predicted:"), "{warnings:?}");
    let manifest = std::fs::read(place.path("out/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let gates = manifest["gates"].as_array().unwrap();
    let residency: Vec<&Value> = gates.iter().filter(|gate| gate["kind"] == "residency").collect();
    assert_eq!(residency.len(), 2);
    assert!(residency.iter().all(|gate| gate["source"] == "predicted"), "{residency:?}");

    let gate = |more: &[&str]| place.run(&[&["gate", "residency", "--bundle", "out"], more].concat());
    let asked = gate(&["--format", "json"]).expect_code(21);
    let reports = asked.json()["shards"].as_array().unwrap().clone();
    assert!(reports.iter().all(|report| report["source"] == "predicted"));
    assert_eq!(
        reports.iter().map(|report| report["pass"].as_bool().unwrap()).collect::<Vec<_>>(),
        [true, false]
    );
    let measured = gate(&["--require", "measured"]).expect_code(21);
    assert!(measured.stderr.contains("on a Mac"), "{}", measured.stderr);
    let record = gate(&["--vs-predicted", "record.json"]).expect_code(30);
    assert!(record.stderr.contains("run this on a Mac"), "{}", record.stderr);
    assert!(!place.path("record.json").exists());
    let unknown = gate(&["--chip", "m9"]).expect_code(2);
    assert!(unknown.stderr.contains("m4"), "{}", unknown.stderr);

    // A project may want predictions to count.
    std::fs::write(place.path("anepipe.toml"), "[gates.residency]\nrequire = \"any\"\n").unwrap();
    let strict = place.build(&demo_model(), &["--context", "256"]).expect_code(21);
    assert_eq!(strict.json()["bundle"], Value::Null);
}
