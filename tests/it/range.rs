//! Values that fp16 or the Neural Engine cannot hold are found where they begin, and ordinary models have none.

use std::path::Path;

use anepipe_testkit::synth::Synth;
use serde_json::Value;

use crate::harness::{Place, Ran, demo_model, shared};

impl Place {
    fn range(&self, more: &[&str]) -> Ran {
        self.run(&[&["gate", "range", "--bundle", "out", "--format", "json"], more].concat())
    }

    /// Builds the model `name` with `change`, which other gates may complain of: what they say is not the question here.
    fn out_of_range(&self, quantize: &str, change: impl FnOnce(Synth) -> Synth) {
        let lax = "{ cosine_mean = -1, cosine_worst = -1, kl_mean = 99, kl_worst = 99, top1_agreement = 0 }";
        let project = format!("[gates.golden]\nstored = {lax}\nint8 = {lax}\nf16 = {lax}\n");
        std::fs::write(self.path("anepipe.toml"), project).unwrap();
        let model = self.synth("model.gguf", change);
        self.build(&model, &["--context", "128", "--quantize", quantize]).expect_ok();
    }
}

/// Hidden unit 8 of the last layer's feed-forward part gets its input from channel 3 alone, 1500 times as loud.
fn loud_unit(model: Synth) -> Synth {
    let (ffn, unit, hidden, channel) = (128, 8, 64, 3);
    model.untied().unwrap().spoil("blk.1.ffn_up.weight", (ffn + unit) * hidden + channel, 1500.0).unwrap()
}

/// The parts of a report as `layer 0`, `output_norm`, `lm_head`, with what was looked at in each.
fn parts(report: &Value) -> Vec<(String, Vec<&Value>)> {
    let name = |part: &Value| match part["layer"].as_u64() {
        Some(layer) => format!("layer {layer}"),
        None => part["part"].as_str().unwrap().to_owned(),
    };
    let parts = report["layers"].as_array().unwrap().iter();
    parts.map(|part| (name(part), part["worst"].as_array().unwrap().iter().collect())).collect()
}

/// The entry of a kind in a part.
fn worst<'a>(report: &'a Value, part: &str, what: &str) -> &'a Value {
    let (_, worst) = parts(report).into_iter().find(|(name, _)| name == part).expect("the part");
    worst.into_iter().find(|entry| entry["what"] == what).expect("the entry")
}

#[test]
fn ordinary_models_stay_in_range_and_every_layer_is_looked_at() {
    let place = Place::new();
    // Two shards, so that layers are counted on.
    place.build(&demo_model(), &["--context", "256", "--topology", "3+1"]).expect_ok();
    let prompts = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/prompts.jsonl");
    let report = place.range(&["--limit", "12", "--prompts", prompts.to_str().unwrap()]).expect_ok().json();
    assert_eq!(
        (&report["pass"], &report["warnings"], &report["reason"]),
        (&true.into(), &0.into(), &Value::Null)
    );
    assert_eq!((&report["prompts"], &report["limits"]["int8_input"]), (&12.into(), &4094.0.into()));
    let names: Vec<String> = parts(&report).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["shared", "layer 0", "layer 1", "layer 2", "shared", "layer 3", "output_norm", "lm_head"]
    );
    for layer in 0..4 {
        for what in
            ["stream", "norm_input", "norm_squares", "int8_input", "convolution_output", "scores", "other"]
        {
            let entry = worst(&report, &format!("layer {layer}"), what);
            let value = entry["value"].as_f64().unwrap();
            assert!(value > 0.5 && value < entry["limit"].as_f64().unwrap(), "{entry}");
            assert!(entry["position"].is_u64(), "{entry}");
        }
    }
    // What the last layer gives, the output norm takes.
    let given = worst(&report, "layer 3", "stream")["value"].as_f64().unwrap();
    let taken = worst(&report, "output_norm", "norm_input")["value"].as_f64().unwrap();
    assert!(taken > 0.5 && taken <= given, "{taken} of {given}");

    let words = place.run(&["gate", "range", "--bundle", "out", "--limit", "2"]).expect_ok().stdout;
    assert!(words.contains("2 prompts") && words.contains("  layer 3 "), "{words}");
}

#[test]
fn both_architectures_stay_in_range() {
    for model in ["models/stories260K-phi3-f32.gguf", "models/stories260K-llama-q8_0.gguf"] {
        let Some(model) = shared(model) else { return };
        let place = Place::new();
        place.build(&model, &["--context", "256"]).expect_ok();
        let report = place.range(&[]).expect_ok().json();
        assert_eq!((&report["pass"], &report["warnings"]), (&true.into(), &0.into()), "{}", model.display());
    }
}

#[test]
fn what_an_int8_convolution_cannot_take_fails_with_its_layer_and_operation() {
    let place = Place::new();
    place.out_of_range("int8", loud_unit);
    let found = place.range(&[]).expect_code(24);
    let report = found.json();
    let entry = worst(&report, "layer 1", "int8_input");
    assert_eq!((&entry["operation"], &entry["verdict"]), (&"l1_down".into(), &"failed".into()));
    assert!(entry["value"].as_f64().unwrap() > 4094.0, "{entry}");
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.contains("layer 1") && reason.contains("l1_down"), "{reason}");
    assert!(reason.contains("expected to saturate"), "{reason}");
    assert!(found.stderr.contains(reason), "{}", found.stderr);
    assert_eq!(worst(&report, "layer 0", "int8_input")["verdict"], "ok");
}

#[test]
fn an_fp16_convolution_is_only_warned_of() {
    let place = Place::new();
    place.out_of_range("f16", loud_unit);
    let report = place.range(&[]).expect_ok().json();
    assert!(report["pass"] == true && report["reason"] == Value::Null);
    assert!(report["warnings"].as_u64().unwrap() > 0);
    let entry = worst(&report, "layer 1", "half_input");
    assert_eq!((&entry["operation"], &entry["verdict"]), (&"l1_down".into(), &"warning".into()));
}

#[test]
fn an_overflow_is_named_where_it_begins_and_only_by_a_prompt_that_causes_it() {
    let place = Place::new();
    let (token, hidden, channel) = (350, 64, 3);
    let loud_token =
        |model| loud_unit(model).spoil("token_embd.weight", token * hidden + channel, 65400.0).unwrap();
    place.out_of_range("int8", loud_token);
    std::fs::write(place.path("common.jsonl"), r#"{"id": "common", "prompt_ids": [1, 2]}"#).unwrap();
    std::fs::write(place.path("rare.jsonl"), r#"{"id": "rare", "prompt_ids": [1, 2, 350]}"#).unwrap();
    let common = place.range(&["--prompts", "common.jsonl"]).json();
    assert!(worst(&common, "layer 1", "stream")["value"].is_f64(), "{common}");
    let report = place.range(&["--prompts", "rare.jsonl"]).expect_code(24).json();
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.contains("layer 1") && reason.contains("l1_after_ffn"), "{reason}");
    assert!(reason.contains("infinite or NaN") && reason.contains("prompt rare, position 2"), "{reason}");
    assert_eq!(worst(&report, "layer 1", "stream")["value"], Value::Null);
    assert_eq!(worst(&report, "layer 0", "stream")["verdict"], "warning");
}

#[test]
fn prompts_that_cannot_be_run_are_refused() {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    place.build(&model, &["--context", "64"]).expect_ok();
    std::fs::write(place.path("foreign.jsonl"), r#"{"id": "foreign", "prompt_ids": [1, 100000]}"#).unwrap();
    std::fs::write(place.path("empty.jsonl"), "\n").unwrap();
    for (more, code, expected) in [
        (&["--prompts", "foreign.jsonl"][..], 2, "foreign"),
        (&["--prompts", "empty.jsonl"], 10, "no prompts"),
        (&["--prompts", "absent.jsonl"], 10, "absent.jsonl"),
        (&["--limit", "0"], 2, "no prompts"),
    ] {
        let refused = place.range(more).expect_code(code);
        assert!(refused.stderr.contains(expected), "{more:?}: {}", refused.stderr);
    }
    // Longer than the context: its beginning counts.
    let ids: Vec<u32> = (0..300).map(|id| id % 256).collect();
    std::fs::write(place.path("long.jsonl"), format!(r#"{{"id": "long", "prompt_ids": {ids:?}}}"#)).unwrap();
    assert_eq!(place.range(&["--prompts", "long.jsonl"]).expect_ok().json()["tokens"], 64);
}
