//! The same input gives the same bytes, in any process.

use crate::harness::{Place, Ran};

#[test]
fn fresh_builds_ship_the_same_manifest_whatever_the_seed_of_hashes() {
    let manifests = ["1", "31337"].map(|seed| {
        let place = Place::new();
        let model = place.synth("model.gguf", |model| model);
        let mut build = place.build_command(&model, &["--context", "64"]);
        Ran::of(build.env("PYTHONHASHSEED", seed)).expect_ok();
        std::fs::read(place.path("out/manifest.json")).unwrap()
    });
    assert!(manifests[0] == manifests[1], "two builds of one model differ");
}
