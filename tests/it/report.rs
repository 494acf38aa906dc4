//! `report`: one page of a bundle, and bundles that have none.

use std::path::Path;

use anepipe_artifacts::Digest;
use serde_json::{Value, json};

use crate::harness::Place;

/// Builds the tiny model into `out`.
fn bundle(more: &[&str]) -> Place {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    place.build(&model, &[&["--context", "64"], more].concat()).expect_ok();
    place
}

fn page(place: &Place) -> String {
    place.run(&["report", "--bundle", "out"]).expect_ok();
    std::fs::read_to_string(place.path("report.html")).unwrap()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Changes a file of the bundle, and its digest in the manifest with it.
fn forge(place: &Place, file: &str, change: impl FnOnce(&mut Value)) {
    let path = place.path("out").join(file);
    let mut value = json_of(&path);
    change(&mut value);
    let bytes = serde_json::to_vec(&value).unwrap();
    replace(&path, &bytes);
    forge_manifest(place, |manifest| {
        let entry = json!({"blake3": Digest::of_bytes(&bytes).to_string(), "size": bytes.len()});
        manifest["files"][file] = entry;
    });
}

fn forge_manifest(place: &Place, change: impl FnOnce(&mut Value)) {
    let path = place.path("out/manifest.json");
    let mut manifest = json_of(&path);
    change(&mut manifest);
    replace(&path, &serde_json::to_vec(&manifest).unwrap());
}

/// Writes another file in the place of one that is read-only and shared with the store.
fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_model_has_a_page_with_every_gate_and_its_figures() {
    let place = bundle(&[]);
    let ran =
        place.run(&["report", "--bundle", "out", "--out", "pages/one.html", "--format", "json"]).expect_ok();
    assert_eq!(ran.json(), json!({"schema": 1, "out": "pages/one.html"}));
    let page = std::fs::read_to_string(place.path("pages/one.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    for word in ["<script", "<link", "url(", "://"] {
        assert!(!page.contains(word), "{word}");
    }

    let manifest = json_of(&place.path("out/manifest.json"));
    let mut expected = vec![
        "A whole model".to_owned(),
        "phi3.embedding_length".to_owned(),
        "Predicted, not measured.".to_owned(),
        "by class of prompt".to_owned(),
        manifest["provenance"]["source"].as_str().unwrap().to_owned(),
        Digest::of_bytes(&std::fs::read(place.path("out/manifest.json")).unwrap()).to_string(),
    ];
    for shard in manifest["shards"].as_array().unwrap() {
        expected.push(shard["path"].as_str().unwrap().to_owned());
    }
    // The tiny model's shards are so small that every one is expected on the CPU.
    expected.push("no shard is expected to run wholly on the Neural Engine".to_owned());
    expected.push("shard-bytes-tiny".to_owned());
    let exact = json_of(&place.path("out/reports/exact.json"));
    for case in exact["cases"].as_array().unwrap() {
        expected.push(format!(">{:.3}<", case["tokens_per_pass"].as_f64().unwrap()));
    }
    let lower = page.to_lowercase();
    for word in &expected {
        assert!(lower.contains(&word.to_lowercase()), "no {word:?}");
    }
    // Each verdict of the manifest stands there in its own words.
    let gates = manifest["gates"].as_array().unwrap();
    let count = |pass: bool, source: &str| {
        gates.iter().filter(|gate| gate["pass"] == pass && gate["source"] == source).count()
    };
    let body = &page[page.find("<body>").unwrap()..];
    let table = &body[..body.find("</table>").unwrap()];
    for (words, number) in [
        (">passed<", count(true, "measured")),
        (">failed<", 0),
        (">predicted yes<", count(true, "predicted")),
        (">predicted no<", count(false, "predicted")),
    ] {
        assert_eq!(table.matches(words).count(), number, "{words}");
    }
}

#[test]
fn equal_bundles_have_equal_pages_and_an_old_page_is_replaced() {
    let place = bundle(&["--layers", "0..1"]);
    std::fs::write(place.path("report.html"), "yesterday's").unwrap();
    let first = page(&place);
    std::fs::rename(place.path("out"), place.path("elsewhere")).unwrap();
    std::fs::write(place.path("anepipe.toml"), "[build]\nout = \"elsewhere\"\n").unwrap();
    let words = place.run(&["report", "--out", "again.html"]).expect_ok();
    assert_eq!(words.stdout, "report: again.html\n");
    assert_eq!(std::fs::read_to_string(place.path("again.html")).unwrap(), first);
}

#[test]
fn a_part_of_a_model_says_which_and_what_was_not_run() {
    let place = bundle(&["--layers", "0..1"]);
    let page = page(&place);
    assert!(page.contains("A part of a model: layers 0..1 of 2"));
    assert!(page.contains("it looks at a whole model, and the bundle holds a part (layers 0..1 of 2)"));
    let golden = &page[page.find("<section id=\"golden\"").unwrap()..];
    assert!(golden[..golden.find("</section>").unwrap()].contains("not run"));
}

/// Words of the message, and what is done to the bundle.
type Case = (&'static [&'static str], fn(&Place));

#[test]
fn bundles_without_a_page_name_the_file_and_leave_the_old_one() {
    const PARITY: &str = "reports/parity_layers_000_001.json";
    const RESIDENCY: &str = "reports/residency_layers_000_001.json";
    const QUANTIZE: &str = "reports/quantize_layer_000.json";
    let cases: [Case; 10] = [
        (&[PARITY, "parity report", "schema 9, not 1"], |p| forge(p, PARITY, |it| it["schema"] = 9.into())),
        (&[PARITY, "expected a sequence at line 1"], |p| forge(p, PARITY, |it| it["checks"] = "many".into())),
        (&[PARITY, "missing field"], |p| forge(p, PARITY, |it| *it = json!({"pass": true}))),
        (&[PARITY, "source is \"predicted\""], |p| forge(p, PARITY, |it| it["source"] = "predicted".into())),
        (&[RESIDENCY, "unknown variant"], |p| {
            forge(p, RESIDENCY, |it| it["ops"][0]["device"] = "npu".into());
        }),
        (&[RESIDENCY, "contradicts", "did not pass, predicted", "passed, predicted"], |p| {
            forge(p, RESIDENCY, |it| it["pass"] = true.into());
        }),
        (&[QUANTIZE, "quantization report"], |p| forge(p, QUANTIZE, |it| *it = json!([]))),
        (&[PARITY, "taste"], |p| {
            forge_manifest(p, |it| {
                let gates = it["gates"].as_array_mut().unwrap();
                gates.iter_mut().find(|gate| gate["kind"] == "parity").unwrap()["kind"] = "taste".into();
            });
        }),
        (&[PARITY, "no gate names it"], |p| {
            forge_manifest(p, |it| {
                it["gates"].as_array_mut().unwrap().retain(|gate| gate["kind"] != "parity");
            });
        }),
        (&["manifest.json", "contract", "rope_base"], |p| {
            forge_manifest(p, |it| drop(it["contract"].as_object_mut().unwrap().remove("rope_base")));
        }),
    ];
    let place = bundle(&["--layers", "0..1"]);
    let old = page(&place);
    for (words, damage) in cases {
        damage(&place);
        let ran = place.run(&["report", "--bundle", "out"]).expect_code(10);
        for word in words {
            assert!(ran.stderr.contains(word), "no {word:?} in {}", ran.stderr);
        }
        assert_eq!(std::fs::read_to_string(place.path("report.html")).unwrap(), old, "{words:?}");
        std::fs::remove_dir_all(place.path("out")).unwrap();
        place.build(&place.path("model.gguf"), &["--context", "64", "--layers", "0..1"]).expect_ok();
    }
}

#[test]
fn places_that_take_no_page() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder")).unwrap();
    let folder = place.run(&["report", "--bundle", "nowhere", "--out", "folder"]).expect_code(2);
    assert!(folder.stderr.contains("folder/report.html"), "{}", folder.stderr);
    std::fs::write(place.path("file"), "").unwrap();
    place
        .build(&place.synth("model.gguf", |model| model), &["--context", "64", "--layers", "0..1"])
        .expect_ok();
    let inside = place.run(&["report", "--bundle", "out", "--out", "file/report.html"]).expect_code(2);
    assert!(inside.stderr.contains("file/report.html"), "{}", inside.stderr);
    let nowhere = place.run(&["report", "--bundle", "nowhere"]).expect_code(10);
    assert!(nowhere.stderr.contains("no manifest.json"), "{}", nowhere.stderr);
    assert!(!place.path("report.html").exists());
}
