//! What a build makes, and what the next one makes again.

use std::collections::BTreeSet;

use anepipe_runtime::bundle::manifest::Manifest;
use anepipe_runtime::bundle::{Bundle, BundleError};
use anepipe_testkit::Encoding;
use anepipe_testkit::synth::{Dimensions, Synth};
use serde_json::Value;

use crate::harness::{Place, demo_model, shared};

const SHARDS_OF_ONE: [&str; 6] = ["--topology", "1+1", "--context", "64", "--jobs", "2"];

/// What looks at the whole model, and so at every change of it.
const WHOLE: [&str; 3] = ["golden model", "exact model", "ship bundle"];

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

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
        // So small a shard is expected to run on the CPU, which is said and stops nothing.
        assert!(gate["pass"] == true || gate["source"] == "predicted", "{gate}");
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
fn a_build_of_every_layer_ships_all_that_decoding_needs() {
    let place = Place::new();
    let options = ["--context", "256"];
    let first = place.build(&demo_model(), &options).expect_ok();
    let bundle = Bundle::open(&place.path("out")).unwrap();
    let manifest = bundle.manifest();
    let shards: Vec<_> = manifest.shards.iter().map(|shard| (shard.path.as_str(), shard.range)).collect();
    assert_eq!(
        shards,
        [("shards/layers_000_004.mlmodelc", [0, 4]), ("shards/lm_head_000_2048.mlmodelc", [0, 2048])]
    );
    let gates: Vec<_> = manifest.gates.iter().map(|gate| (gate.report.as_str(), gate.pass)).collect();
    assert_eq!(
        gates,
        [
            ("reports/residency_layers_000_004.json", true),
            ("reports/parity_layers_000_004.json", true),
            // Predicted: 0.4 MB is not worth a dispatch.
            ("reports/residency_lm_head_000_2048.json", false),
            ("reports/parity_lm_head_000_2048.json", true),
            ("reports/golden.json", true),
            ("reports/exact.json", true),
        ]
    );
    for file in ["reports/quantize_lm_head_000_2048.json", "reports/quantize_output_norm.json"] {
        assert!(manifest.files.contains_key(file), "{file} did not ship");
    }
    let parts = bundle.parts().unwrap();
    assert_eq!((parts.hidden, parts.vocab, parts.block, parts.context), (192, 2048, 4, 256));
    assert_eq!(
        (parts.embedding, parts.tokenizer),
        (place.path("out/embedding.safetensors"), place.path("out/tokenizer.json"))
    );
    let tokenizer: Value =
        serde_json::from_slice(&std::fs::read(place.path("out/tokenizer.json")).unwrap()).unwrap();
    assert_eq!(tokenizer["metadata"]["tokenizer.ggml.tokens"].as_array().unwrap().len(), 2048);
    let words = place.run(&["inspect", "out"]).expect_ok().stdout;
    for said in ["lm_head 0..2048", "embedding embedding.safetensors", "tokenizer tokenizer.json"] {
        assert!(words.contains(said), "{said} is not in {words}");
    }
    let embedding = place.run(&["inspect", "out/embedding.safetensors"]).expect_ok().stdout;
    assert!(embedding.contains("embedding: F16 [2048, 192]"), "{embedding}");

    let second = place.build(&demo_model(), &options).expect_ok();
    assert_eq!((second.count("ran"), second.count("cached")), (0, first.count("total")));
    assert_eq!(place.started_by(&demo_model(), &options), BTreeSet::new());
    let gate = place.run(&["gate", "parity", "--bundle", "out", "--format", "json"]).expect_ok();
    assert_eq!(gate.json()["shards"].as_array().unwrap().len(), 2);
    // A range that is all of the model is the model.
    assert_eq!(
        place.started_by(&demo_model(), &[&options[..], &["--layers", "0..4"]].concat()),
        BTreeSet::new()
    );
    place.assert_sound();
}

#[test]
fn a_build_of_some_layers_ships_these_and_nothing_else() {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    let started = place.started_by(&model, &["--layers", "1..2", "--context", "64"]);
    let expected = names(&[
        "contract model",
        "extract token embeddings",
        "graph of 1 layer",
        "quantize layer 1",
        "convert layers 1..2",
        "compile layers 1..2",
        "residency layers 1..2",
        "parity layers 1..2",
        "ship bundle",
    ]);
    assert_eq!(started, expected);
    let bundle = Bundle::open(&place.path("out")).unwrap();
    assert_eq!((&bundle.manifest().embedding, &bundle.manifest().tokenizer), (&None, &None));
    let error = bundle.parts().unwrap_err();
    assert!(matches!(error, BundleError::Partial { .. }), "{error:?}");
    assert!(error.to_string().contains("layers 0..1 are not in it"), "{error}");
}

#[test]
fn models_of_either_architecture_ship_whole_and_the_same_weights_are_the_same_shards() {
    let place = Place::new();
    let mut shards_of_phi3: Vec<Vec<String>> = Vec::new();
    for architecture in ["phi3", "llama"] {
        for (index, (weights, quantization)) in
            [("f32", "f16"), ("f32", "int8"), ("q8_0", "f16"), ("q8_0", "int8")].into_iter().enumerate()
        {
            let Some(model) = shared(&format!("models/stories260K-{architecture}-{weights}.gguf")) else {
                return;
            };
            place.build(&model, &["--context", "256", "--quantize", quantization]).expect_ok();
            let bundle = Bundle::open(&place.path("out")).unwrap();
            let parts = bundle.parts().unwrap();
            assert_eq!(
                (parts.layers.len(), parts.heads.len(), parts.vocab),
                (1, 1, 512),
                "{}",
                model.display()
            );
            let digests =
                |manifest: &Manifest| manifest.shards.iter().map(|shard| shard.digest.clone()).collect();
            match shards_of_phi3.get(index) {
                Some(phi3) => assert_eq!(digests(bundle.manifest()), *phi3, "{}", model.display()),
                None => shards_of_phi3.push(digests(bundle.manifest())),
            }
        }
    }
}

#[test]
fn slices_of_a_large_vocabulary_share_one_graph_and_follow_each_other() {
    let place = Place::new();
    let dimensions = Dimensions { vocab: 2 * 65_536, layers: 1, ..Dimensions::tiny() };
    let model = place.path("model.gguf");
    Synth::new(dimensions, Encoding::Q8_0, 1).unwrap().write(&model).unwrap();
    let started = place.started_by(&model, &["--context", "64"]);
    let graphs: Vec<_> = started.iter().filter(|name| name.starts_with("graph ")).collect();
    assert_eq!(graphs, ["graph of 1 layer and the output norm", "graph of 65536 lm_head rows"]);
    let heads = Bundle::open(&place.path("out")).unwrap().parts().unwrap().heads;
    assert_eq!(heads.iter().map(|head| head.rows.clone()).collect::<Vec<_>>(), [0..65_536, 65_536..131_072]);
}

#[test]
fn a_changed_tensor_or_key_outside_the_layers_runs_what_is_made_of_it() {
    let head = ["quantize", "convert", "compile", "residency", "parity"]
        .map(|stage| format!("{stage} lm_head 0..384"));
    let also = |more: &[&str]| -> BTreeSet<String> {
        head.iter().cloned().chain(names(more)).chain(names(&WHOLE)).collect()
    };
    let only =
        |these: &[&str]| -> BTreeSet<String> { names(these).into_iter().chain(names(&WHOLE)).collect() };

    let place = Place::new();
    let tied = place.synth("model.gguf", |model| model);
    place.build(&tied, &SHARDS_OF_ONE).expect_ok();
    // The gates feed rows of the embedding, so they look again at layers that are as they were.
    let gated = ["extract token embeddings", "extract embedding", "parity layers 0..1", "parity layers 1..2"];
    let changed = place.synth("changed.gguf", |model| model.reseed("token_embd.weight", 99).unwrap());
    assert_eq!(place.started_by(&changed, &SHARDS_OF_ONE), also(&gated));

    let changed = place.synth("changed.gguf", |model| model.reseed("output_norm.weight", 99).unwrap());
    let last = [
        "quantize output norm",
        "convert layers 1..2",
        "compile layers 1..2",
        "residency layers 1..2",
        "parity layers 1..2",
    ];
    assert_eq!(place.started_by(&changed, &SHARDS_OF_ONE), only(&last));

    let changed =
        place.synth("changed.gguf", |model| model.with_key("tokenizer.chat_template", "{{ text }}"));
    assert_eq!(place.started_by(&changed, &SHARDS_OF_ONE), only(&["extract tokenizer"]));

    let untied = place.synth("untied.gguf", |model| model.untied().unwrap());
    place.build(&untied, &SHARDS_OF_ONE).expect_ok();
    let changed =
        place.synth("changed.gguf", |model| model.untied().unwrap().reseed("output.weight", 99).unwrap());
    assert_eq!(place.started_by(&changed, &SHARDS_OF_ONE), also(&[]));
    place.assert_sound();
}

#[test]
fn a_change_runs_what_depends_on_it_and_nothing_else() {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    place.build(&model, &SHARDS_OF_ONE).expect_ok();

    let changed = place.synth("changed.gguf", |model| model.reseed("blk.1.ffn_down.weight", 99).unwrap());
    let path_of_layer_1 = [
        "quantize layer 1",
        "convert layers 1..2",
        "compile layers 1..2",
        "residency layers 1..2",
        "parity layers 1..2",
    ];
    let expected = names(&[&path_of_layer_1[..], &WHOLE].concat());
    assert_eq!(place.started_by(&changed, &SHARDS_OF_ONE), expected);

    let wider = place.started_by(&model, &[&SHARDS_OF_ONE[..], &["--block", "2"]].concat());
    let weights = |name: &&String| name.starts_with("extract") || name.starts_with("quantize");
    assert_eq!(wider.iter().find(weights), None, "a block of another size has the same weights");
    assert!(wider.contains("graph of 1 layer") && wider.contains("convert layers 0..1"), "{wider:?}");
    place.assert_sound();
}
