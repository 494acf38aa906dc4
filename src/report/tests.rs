//! Pages of bundles that are made up here, down to what no build would ship.

use anepipe_artifacts::Digest;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::evidence::{Quantized, Shard};
use super::{Evidence, page};

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a report")
}

/// A bundle of everything, in which `text` stands wherever a file may have any text.
fn evidence(text: &str) -> Evidence {
    let sourced = |value: Value| json!({"value": value, "source": text});
    let contract = json!({
        "schema": 1, "architecture": sourced(json!("phi3")), "context": 64, "context_length": sourced(json!(128)),
        "hidden": sourced(json!(64)), "layers": sourced(json!(4)), "heads": sourced(json!(4)),
        "kv_heads": sourced(json!(2)), "head_dim": sourced(json!(16)), "ffn": sourced(json!(128)),
        "vocab": sourced(json!(2048)), "norm_eps": sourced(json!(0.00001)), "rope_dim": sourced(json!(12)),
        "rope_base": sourced(json!(10000.0)), "rope_factors": sourced(json!([1.0, 1.5])),
        "original_context": sourced(json!(64)), "attn_factor": sourced(json!(1.1)),
        "sliding_window": sourced(Value::Null), "head": sourced(json!("tied")),
        "tokenizer": {
            "kind": sourced(json!(text)), "pre": sourced(json!(text)), "tokens": sourced(json!(2048)),
            "bos": sourced(json!(1)), "eos": sourced(Value::Null), "add_bos": sourced(json!(true)),
        },
    });
    let entry = json!({"role": "layers", "range": [0, 4], "path": text, "digest": text, "states": [text]});
    let manifest = json!({
        "schema": 1, "contract": contract, "style": text, "block": 4, "widths": [1, 4], "context": 64,
        "quantization": text, "shards": [entry], "rope": {"rope_dim": 12, "base": 10000.0, "attn_factor": 1.1},
        "token_embeddings": text, "embedding": text, "tokenizer": text, "gates": [],
        "files": {text: {"blake3": text, "size": 1000}},
        "provenance": {"source": text, "versions": {text: text}},
    });
    Evidence {
        contract: typed(contract),
        manifest: typed(manifest),
        digest: Digest::of_bytes(b"manifest"),
        whole: true,
        shards: vec![Shard {
            entry: typed(entry),
            name: text.to_owned(),
            bytes: 1000,
            parity: Some(typed(parity(text))),
            residency: Some(typed(residency(text))),
        }],
        golden: Some(typed(golden(text))),
        exact: Some(typed(exact(text))),
        quantized: vec![Quantized {
            of: text.to_owned(),
            report: typed(json!({"schema": 1, "quantization": "int8", "tensors": [
                {"tensor": text, "shape": [128, 64], "rms_relative": 0.005, "max_abs": 0.01, "cosine": 0.99998}]})),
        }],
    }
}

fn parity(text: &str) -> Value {
    let check = json!({
        "invariance": "slot", "case": "block", "input": text, "start": 0, "slots": [0, 0, 1],
        "seq_vs_block_cos": 0.99, "per_token_cos": [1.0, 0.5, null], "update_per_token_cos": [1.0, -0.25, 0.9],
        "rmse": 0.1, "max_abs": null, "bit_exact": false,
        "thresholds": {"per_token_cos": 0.999, "update_per_token_cos": 0.999, "bit_exact": true},
        "failures": [{"kind": "not_finite", "token": 2}], "failing_tokens": [1, 2], "pass": false,
    });
    json!({
        "schema": 1, "shard": text, "device": text, "block": 4, "context": 64, "checks": [check],
        "not_run": [{"invariance": "stale", "reason": text}], "pass": false, "reason": text,
    })
}

/// A prediction that says no.
fn residency(text: &str) -> Value {
    let hit = |kind| json!({"rule": text, "kind": kind, "ops": 2, "found": text, "reason": text, "source": text, "confidence": "low"});
    let op = |device: &str| {
        json!({"function": text, "name": text, "kind": text, "device": device, "supported_devices": ["cpu"],
               "rule": text, "reason": text, "source": text})
    };
    json!({
        "schema": 1, "shard": text, "source": "predicted", "target": {"chip": text, "os": text}, "conv_total": 1,
        "conv_ane": 0, "conv_non_ane": 1, "compute_total": 2, "compute_ane": 1, "compute_non_ane": 1, "pass": false,
        "reason": text, "ops": [op("cpu"), op("ane")], "violations": [hit("hard")], "warnings": [hit("warning")],
        "conflicts": [{"id": text, "rule": text, "sides": [{"says": text, "source": text}, {"says": text, "source": text}],
                       "decides": 0, "why": text}],
    })
}

fn golden(text: &str) -> Value {
    let limits = json!({"cosine_mean": 0.9, "cosine_worst": 0.8, "kl_mean": 0.1, "kl_worst": 0.2, "top1_agreement": 0.75});
    json!({
        "schema": 1, "device": text, "quantization": "int8",
        "text": {"tokens": 3, "source": {"kind": "given", "name": text}},
        "comparisons": [{
            "weights": "stored",
            "figures": {"cosine_mean": null, "cosine_worst": null, "kl_mean": 0.5, "kl_worst": {"value": 0.7, "token": 2},
                        "top1_agreement": 0.5, "max_abs": null, "perplexity_reference": null, "perplexity_shards": 7.5},
            "checks": [{"measure": "kl_mean", "value": 0.5, "token": null, "bound": "at_most", "limit": 0.1, "pass": false}],
            "per_token": [], "thresholds": limits, "pass": false,
        }],
        "failures": [], "pass": false, "reason": text,
    })
}

fn exact(text: &str) -> Value {
    json!({
        "schema": 1, "device": text, "prompts": 2, "max_new": 8, "equal": 1,
        "first_divergence": {"prompt": text, "case": "ngram", "token": 3, "plain": 1, "speculative": null},
        "tokens_per_pass": null,
        "cases": [{"case": "ngram", "equal": 1, "tokens": 16, "passes": 0, "proposed": 0, "accepted": 0, "tokens_per_pass": null}],
        "classes": [{"class": text, "prompts": 2, "tokens_per_pass": 1.5}], "pass": false, "reason": text,
    })
}

/// What a reader sees: the page without its style, which has names of its own.
fn body(evidence: &Evidence) -> String {
    let page = page(evidence);
    page[page.find("<body>").expect("a body")..].to_owned()
}

/// The part of the page with that id.
fn part(evidence: &Evidence, id: &str) -> String {
    let body = body(evidence);
    let start = body.find(&format!("<section id=\"{id}\"")).expect("a part of that name");
    let end = body[start..].find("</section>").expect("its end");
    body[start..start + end].to_owned()
}

#[test]
fn text_from_files_is_never_markup() {
    let hostile = "</td><script src=\"//x\">alert('&')</script><style>*{}";
    let escaped =
        "&lt;/td&gt;&lt;script src=&quot;//x&quot;&gt;alert('&amp;')&lt;/script&gt;&lt;style&gt;*{}";
    let (found, plain) = (page(&evidence(hostile)), page(&evidence("plain-text")));
    assert!(found.matches(escaped).count() > 60, "too little of it is on the page");
    // A digest is cut before it is escaped, so that it shows the beginning only.
    let found =
        found.replace(escaped, "plain-text").replace(">&lt;/td&gt;&lt;script</code>", ">plain-text</code>");
    assert!(found == plain, "text of a file changes more than text");
}

#[test]
fn a_page_needs_no_script_and_loads_nothing() {
    let page = page(&evidence("plain"));
    for word in ["<script", "<link", "<img", "<iframe", "@import", "url(", "://", "src=", "onclick"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("default-src 'none'"));
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
}

#[test]
fn a_predicted_no_is_said_at_the_top_and_never_in_the_words_of_a_measurement() {
    let evidence = evidence("layers 0..4");
    let residency = part(&evidence, "residency");
    assert!(residency.contains("Predicted, not measured.") && residency.contains("predicted no"));
    assert!(residency.contains("Predicted on the Neural Engine"));
    for word in ["passed", "failed", "class=\"mark measured\""] {
        assert!(!residency.contains(word), "{word}: {residency}");
    }
    let body = body(&evidence);
    let lead = &body[..body.find("</header>").expect("a header")];
    assert!(lead.contains("Residency is predicted, not measured: no shard is expected to run"), "{lead}");
}

#[test]
fn a_predicted_yes_is_no_proof_either() {
    let mut evidence = evidence("layers 0..4");
    let report = evidence.shards[0].residency.as_mut().expect("a report");
    (report.pass, report.reason, report.violations) = (true, None, Vec::new());
    let residency = part(&evidence, "residency");
    assert!(residency.contains("predicted yes") && residency.contains("Predicted, not measured."));
    assert!(!residency.contains("passed") && !residency.contains("Rules broken"), "{residency}");
    assert!(body(&evidence).contains("not measured: every shard is expected to run wholly"));
}

#[test]
fn of_several_shards_the_doubtful_ones_are_named() {
    let mut all = evidence("layers 0..4");
    for name in ["layers 4..8", "lm_head 0..9"] {
        let mut other = evidence(name).shards.remove(0);
        other.residency.as_mut().expect("a report").pass = name != "lm_head 0..9";
        all.shards.push(other);
    }
    let body = body(&all);
    let said =
        "2 of 3 shards are not expected to run wholly on the Neural Engine: layers 0..4 and lm_head 0..9.";
    assert!(body.contains(said), "{}", &body[..1000]);
}

#[test]
fn a_measured_residency_is_no_prediction() {
    let mut evidence = evidence("layers 0..4");
    let mut measured = residency("layers 0..4");
    measured["source"] = "measured".into();
    for list in ["violations", "warnings", "conflicts"] {
        measured[list] = json!([]);
    }
    measured["ops"][0]["reason"] = "the compute plan prefers the CPU".into();
    evidence.shards[0].residency = Some(typed(measured));
    let residency = part(&evidence, "residency");
    assert!(!residency.to_lowercase().contains("predicted"), "{residency}");
    assert!(
        residency.contains("Measured off the Neural Engine")
            && residency.contains("the compute plan prefers")
    );
    assert!(body(&evidence).contains("4 of 4 gates that were run failed"));
}

#[test]
fn what_failed_says_so_with_its_figures() {
    let evidence = evidence("layers 0..4");
    let parity = part(&evidence, "parity");
    for word in ["failed", "NaN", "-0.250000", "tokens 1 and 2", "not run", "the report does not speak of it"]
    {
        assert!(parity.contains(word), "{word}: {parity}");
    }
    let golden = part(&evidence, "golden");
    for word in ["failed", "mean KL, nats", "0.50", "≤ 0.1", "decides nothing"] {
        assert!(golden.contains(word), "{word}: {golden}");
    }
    assert!(part(&evidence, "exact").contains("1 of 2"));
    assert!(body(&evidence).contains("3 of 3 gates that were run failed"));
}

#[test]
fn what_is_not_in_a_bundle_is_said_to_be_absent() {
    let mut evidence = evidence("layers 0..4");
    evidence.whole = false;
    (evidence.golden, evidence.exact, evidence.quantized) = (None, None, Vec::new());
    (evidence.shards[0].parity, evidence.shards[0].residency) = (None, None);
    evidence.shards[0].entry.range = [0, 2];
    for id in ["parity", "residency", "golden", "exact"] {
        assert!(part(&evidence, id).contains("not run"), "{id}");
    }
    let body = body(&evidence);
    assert!(body.contains("A part of a model: layers 0..2 of 4"), "{}", &body[..1000]);
    assert!(body.contains("No gate was run on a device."));
    assert!(!body.contains("passed"), "nothing was looked at");
    evidence.shards.clear();
    page(&evidence);
}

#[test]
fn reports_that_say_nothing_or_nonsense_have_a_page() {
    let mut evidence = evidence("x");
    let judged = evidence.shards[0].parity.as_mut().expect("a report");
    judged.report.checks.clear();
    judged.report.not_run.clear();
    let report = evidence.shards[0].residency.as_mut().expect("a report");
    report.conflicts[0].decides = usize::MAX;
    report.ops.clear();
    evidence.golden.as_mut().expect("a report").comparisons[0].checks.clear();
    evidence.exact.as_mut().expect("a report").cases.clear();
    assert!(page(&evidence).ends_with("</html>"));
    evidence.golden.as_mut().expect("a report").comparisons.clear();
    assert!(part(&evidence, "golden").contains("could not be compared at all"));
}
