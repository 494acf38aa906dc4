//! `anepipe bench`: that everything is measured, and said in one document. How long anything takes is nobody's business here.

use serde_json::Value;

use crate::harness::{Place, demo_model};

/// The median, which must be a number above zero between the least and the most.
fn figure(value: &Value) -> f64 {
    let [median, min, max] = ["median", "min", "max"].map(|key| value[key].as_f64().unwrap_or(f64::NAN));
    assert!(0.0 < min && min <= median && median <= max, "{value}");
    median
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

#[test]
fn everything_is_measured_and_one_document_says_it() {
    let place = Place::new();
    place.build(&demo_model(), &["--context", "128", "--widths", "1,8"]).expect_ok();
    let prompts = place.path("prompts.jsonl");
    std::fs::write(
        &prompts,
        concat!(
            r#"{"class": "code", "text": "def main():\n"}"#,
            "\n",
            r#"{"class": "ids", "prompt_ids": [1, 2, 3]}"#,
            "\n",
            r#"{"class": "code", "text": "class Point:\n"}"#,
            "\n",
            r#"{"class": "code", "text": "never reached"}"#,
        ),
    )
    .unwrap();
    let options = [
        "bench",
        "--bundle",
        "out",
        "--rounds",
        "2",
        "--memory",
        "1",
        "--prefill",
        "40",
        "--tokens",
        "12",
        "--per-class",
        "2",
        "--prompts",
        prompts.to_str().unwrap(),
    ];
    let report = place.run(&[&options[..], &["--format", "json", "--threads", "1"]].concat());
    assert_eq!(report.expect_ok().stderr, "", "progress is for terminals");
    let report = place
        .run(&[&options[..], &["--format", "json", "--threads", "1", "--isa", "baseline"]].concat())
        .expect_ok()
        .json();

    assert_eq!((&report["schema"], &report["rounds"]), (&1.into(), &2.into()));
    let machine = &report["machine"];
    assert_eq!((&machine["isa"], &machine["threads"]), (&"baseline".into(), &1.into()));
    assert!(machine["cores"].as_u64().unwrap() >= 1 && !machine["cpu"].as_str().unwrap().is_empty());
    assert_eq!(machine["date"].as_str().unwrap().len(), "2026-01-31".len());
    let bundle = &report["bundle"];
    assert_eq!((&bundle["layers"], &bundle["hidden"], &bundle["block"]), (&4.into(), &192.into(), &4.into()));
    assert!(bundle["weight_bytes"].as_u64().unwrap() > 1_900_000, "{bundle}");
    for key in ["check_seconds", "model_seconds", "session_seconds"] {
        assert!(report["load"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    for key in ["read_gbps", "copy_gbps", "weights_ms", "weights_gbps"] {
        figure(&report["memory"][key]);
    }

    // 1900 does not fit: as much as leaves room for the widest pass is measured in its place.
    let passes: Vec<_> = list(&report["passes"])
        .iter()
        .map(|pass| {
            for key in ["ms", "weights_gbps", "of_read", "tokens_per_second"] {
                figure(&pass[key]);
            }
            ["context", "tokens", "width"].map(|key| pass[key].as_u64().unwrap())
        })
        .collect();
    let expected: Vec<_> = [0, 120]
        .into_iter()
        .flat_map(|context| {
            [(1, 1), (2, 4), (3, 4), (4, 4), (8, 8)].map(|(tokens, width)| [context, tokens, width])
        })
        .collect();
    assert_eq!(passes, expected);
    let cost = |cost: &Value| {
        figure(&cost["c"]);
        cost["context"].as_u64().unwrap()
    };
    assert_eq!(list(&report["costs"]).iter().map(cost).collect::<Vec<_>>(), [0, 120]);
    assert_eq!((&report["prefill"]["tokens"], &report["prefill"]["width"]), (&40.into(), &8.into()));
    figure(&report["prefill"]["tokens_per_second"]);
    let classes = list(&report["decode"]["classes"]);
    let counts: Vec<_> =
        classes.iter().map(|class| (class["class"].as_str().unwrap(), class["prompts"].as_u64())).collect();
    assert_eq!(counts, [("code", Some(2)), ("ids", Some(1))]);
    for class in classes {
        for key in ["plain_tokens_per_second", "speculative_tokens_per_second", "ratio"] {
            figure(&class[key]);
        }
        assert_eq!(class["equal"], true, "{class}");
        assert!(class["tokens_per_pass"].as_f64().unwrap() >= 1.0);
    }

    let words = place.run(&options).expect_ok().stdout;
    for heading in ["of a read", "c at context 120", "prefill: 40 tokens", "with drafts", "code"] {
        assert!(words.contains(heading), "{heading}: {words}");
    }

    assert_eq!(report["decode"]["keep"], false);
    let kept = place.run(&[&options[..], &["--keep", "--format", "json"]].concat()).expect_ok().json();
    assert_eq!(kept["decode"]["keep"], true);
    assert!(list(&kept["decode"]["classes"]).iter().all(|class| class["equal"] == true), "{kept}");
    let words = place.run(&[&options[..], &["--keep"]].concat()).expect_ok().stdout;
    assert!(words.contains("with what the prompts before it taught"), "{words}");
}

#[test]
fn what_is_left_out_is_null_and_what_cannot_be_measured_is_refused() {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    place.build(&model, &["--context", "64"]).expect_ok();
    let bench = |more: &[&str]| {
        let options = [
            "bench", "--bundle", "out", "--rounds", "1", "--memory", "1", "--format", "json", "--tokens", "0",
        ];
        place.run(&[&options[..], more].concat())
    };
    let report = bench(&["--contexts", "0", "--prefill", "0"]).expect_ok().json();
    assert_eq!((&report["prefill"], &report["decode"]), (&Value::Null, &Value::Null));
    assert_eq!(list(&report["passes"]).len(), 4);
    for (arguments, words) in [
        (&["--rounds", "0"][..], "rounds"),
        (&["--isa", "abacus"], "baseline"),
        (&["--memory", "0"], "memory"),
    ] {
        let refused = place.run(&[&["bench", "--bundle", "out"], arguments].concat()).expect_code(2);
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    place.build(&model, &["--context", "64", "--layers", "0..1"]).expect_ok();
    assert!(bench(&[]).expect_code(10).stderr.contains("without --layers"));
}
