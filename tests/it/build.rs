//! What a build makes, and what the next one makes again.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Place, shared};

const SHARDS_OF_ONE: [&str; 6] = ["--topology", "1+1", "--context", "64", "--jobs", "2"];

#[test]
fn a_build_ships_a_gated_bundle_and_the_next_one_runs_nothing() {
    let Some(model) = shared("models/stories260K-phi3-q8_0.gguf") else { return };
    let place = Place::new();
    let options = ["--layers", "0..5", "--context", "256"];

    let first = place.build(&model, &options).expect_ok();
    let summary = first.json();
    assert_eq!((&summary["result"], &summary["bundle"]), (&Value::from("ok"), &Value::from("out")));
    assert_eq!(first.count("ran"), first.count("total"));

    let manifest: Value =
        serde_json::from_slice(&std::fs::read(place.path("out/manifest.json")).unwrap()).unwrap();
    let gates = manifest["gates"].as_array().unwrap();
    assert!(!gates.is_empty());
    for gate in gates {
        assert_eq!(gate["pass"], true);
        let report = place.path("out").join(gate["report"].as_str().unwrap());
        assert!(report.is_file(), "{} is missing", report.display());
    }
    for file in manifest["files"].as_object().unwrap().keys() {
        assert!(place.path("out").join(file).is_file(), "{file} is missing");
    }

    let second = place.build(&model, &options).expect_ok();
    assert_eq!((second.count("ran"), second.count("cached")), (0, first.count("total")));
    assert_eq!(place.started_by(&model, &options), BTreeSet::new());

    let gate = place.run(&["gate", "parity", "--bundle", "out", "--format", "json"]).expect_ok();
    assert_eq!(gate.json()["pass"], true);
    place.assert_sound();
}

#[test]
fn a_change_runs_what_depends_on_it_and_nothing_else() {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    place.build(&model, &SHARDS_OF_ONE).expect_ok();

    let changed = place.synth("changed.gguf", |model| model.reseed("blk.1.ffn_down.weight", 99).unwrap());
    let path_of_layer_1 = [
        "extract layer 1",
        "quantize layer 1",
        "convert layers 1..2",
        "compile layers 1..2",
        "parity layers 1..2",
        "ship bundle",
    ];
    assert_eq!(
        place.started_by(&changed, &SHARDS_OF_ONE),
        path_of_layer_1.into_iter().map(str::to_owned).collect()
    );

    let wider = place.started_by(&model, &[&SHARDS_OF_ONE[..], &["--block", "2"]].concat());
    let weights = |name: &&String| name.starts_with("extract") || name.starts_with("quantize");
    assert_eq!(wider.iter().find(weights), None, "a block of another size has the same weights");
    assert!(wider.contains("graph of 1 layer") && wider.contains("convert layers 0..1"), "{wider:?}");
    place.assert_sound();
}
