//! A wrong graph does not ship, and its report says which tokens are wrong.

use serde_json::Value;

use crate::harness::{Place, Ran, demo_model};

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
