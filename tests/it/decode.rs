//! Whole models: what they say, that drafts change nothing, and what is refused.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anepipe_runtime::bundle::{Bundle, Parts};
use anepipe_runtime::portable::{Isa, PortableDevice};
use anepipe_runtime::session::{Model, Session};
use serde_json::Value;

use crate::harness::{Place, Ran, demo_model, shared};

impl Place {
    /// Builds `model` whole into `out` and gives the bundle's folder.
    fn whole(&self, model: &Path, more: &[&str]) -> PathBuf {
        self.build(model, more).expect_ok();
        self.path("out")
    }

    fn generate(&self, more: &[&str]) -> Ran {
        self.run(&[&["generate", "--bundle", "out", "--format", "json"], more].concat())
    }
}

fn ids(answer: &Value) -> Vec<u64> {
    answer["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

/// llama.cpp's greedy tokens for both files, recorded from the f32 weights.
#[test]
fn both_architectures_say_what_llama_cpp_says() {
    let Some(golden) = shared("models/stories260K.golden_greedy_ids.txt") else { return };
    let golden = std::fs::read_to_string(golden).unwrap();
    let golden: Vec<u64> = golden.split_whitespace().map(|id| id.parse().unwrap()).collect();
    assert!(golden.len() >= 100);
    for model in ["models/stories260K-phi3-f32.gguf", "models/stories260K-llama-f32.gguf"] {
        let Some(model) = shared(model) else { return };
        let place = Place::new();
        place.whole(&model, &["--quantize", "f16", "--context", "256"]);
        let count = golden.len().to_string();
        let answer = place.generate(&["--prompt-ids", "1", "--max-new", &count]).expect_ok().json();
        assert_eq!(ids(&answer), golden, "{}", model.display());
    }
}

#[test]
fn drafts_change_no_token_whatever_draws_them() {
    let place = Place::new();
    place.whole(&demo_model(), &["--context", "256"]);
    let report = place.run(&[
        "gate",
        "exact",
        "--bundle",
        "out",
        "--format",
        "json",
        "--limit",
        "12",
        "--max-new",
        "48",
        "--prompts",
        prompts().to_str().unwrap(),
    ]);
    let report = report.expect_ok().json();
    assert_eq!(
        (&report["prompts"], &report["equal"], &report["pass"]),
        (&12.into(), &12.into(), &true.into())
    );
    assert_eq!(report["first_divergence"], Value::Null);
    assert!(report["tokens_per_pass"].as_f64().unwrap() > 1.0);
    let wrong = report["cases"].as_array().unwrap().iter().find(|case| case["case"] == "wrong").unwrap();
    assert_eq!((&wrong["accepted"], &wrong["equal"]), (&0.into(), &12.into()));
    assert!(wrong["proposed"].as_u64().unwrap() > 1000, "{wrong}");

    let prompt = ["--prompt", "def read(path):\n", "--max-new", "40"];
    let drawn = ["--temperature", "0.9", "--seed", "7"];
    let table = ["--draft-table", "table"];
    for choice in [&[][..], &drawn[..]] {
        let plain = place.generate(&[&prompt[..], choice, &["--draft", "off"]].concat()).expect_ok().json();
        assert_eq!(plain["stats"]["proposed"], 0);
        // The second time the table knows the whole text.
        for drafting in [&[][..], &table, &table] {
            let drafted = place.generate(&[&prompt[..], choice, drafting].concat()).expect_ok().json();
            assert_eq!((&drafted["tokens"], &drafted["text"]), (&plain["tokens"], &plain["text"]));
        }
    }
    let other = place.generate(&[&prompt[..], &["--temperature", "0.9", "--seed", "8"]].concat()).expect_ok();
    let seventh = place.generate(&[&prompt[..], &drawn].concat()).expect_ok();
    assert_ne!(ids(&other.json()), ids(&seventh.json()), "the seed is not looked at");
}

fn prompts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/prompts.jsonl")
}

#[test]
fn text_streams_and_ends_where_it_is_told_to() {
    let place = Place::new();
    place.whole(&demo_model(), &["--context", "64"]);
    let prompt = ["--prompt", "def main():\n"];
    let whole = place.generate(&[&prompt[..], &["--max-new", "30"]].concat()).expect_ok().json();
    let text = whole["text"].as_str().unwrap();
    assert_eq!(whole["end"], "max_new");

    let words = place.run(&[&["generate", "--bundle", "out"], &prompt[..], &["--max-new", "30"]].concat());
    assert_eq!(words.expect_ok().stdout, format!("{text}\n"), "the stream says something else");

    // A stop that no single token spells: from the middle of one to the middle of another.
    let (start, end) = (text.len() / 3, text.len() / 3 + 7);
    let stop = &text[start..end];
    let stopped =
        place.generate(&[&prompt[..], &["--max-new", "30", "--stop", stop]].concat()).expect_ok().json();
    assert_eq!((&stopped["end"], &stopped["stop"]), (&"stop".into(), &stop.into()));
    assert_eq!(stopped["text"].as_str().unwrap(), &text[..text.find(stop).unwrap()]);

    let full = place.generate(&[&prompt[..], &["--ignore-eos"]].concat()).expect_ok();
    assert!(full.stderr.contains("--context"), "{}", full.stderr);
    let full = full.json();
    assert_eq!(full["end"], "context_full");
    let prompt_ids = full["prompt_ids"].as_array().unwrap().len();
    assert_eq!(prompt_ids + ids(&full).len(), 65, "every position is used, and the last token needs none");

    let chat = place.generate(&["--prompt", "<|end|>", "--chat", "--max-new", "4"]).expect_ok().json();
    let end = chat["prompt_ids"].as_array().unwrap().iter().filter(|id| **id == 2047).count();
    assert_eq!(end, 1, "a user's text forged the end of a turn: {chat}");

    // A reader that goes away ends the generation, and that is no error.
    let mut unread = place.command(&["generate", "--bundle", "out", "--prompt", "def", "--max-new", "50"]);
    let mut child = unread.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_trace_has_every_kernel_of_every_pass() {
    let place = Place::new();
    place.whole(&demo_model(), &["--context", "64"]);
    let prompt = ["--prompt-ids", "5,6,7,8,9,10", "--max-new", "3", "--draft", "off"];
    let plain = place.generate(&prompt).expect_ok().json();
    let ran = place.generate(&[&prompt[..], &["--trace", "trace.json"]].concat()).expect_ok();
    assert_eq!(ids(&ran.json()), ids(&plain));
    assert!(ran.stderr.contains("2 passes of 1 token, ") && ran.stderr.contains("GB/s"), "{}", ran.stderr);

    let trace: Value = serde_json::from_slice(&std::fs::read(place.path("trace.json")).unwrap()).unwrap();
    let spans = trace["traceEvents"].as_array().unwrap();
    // A prompt of six in two passes of four, then one pass for each of two tokens; the third needs none.
    for (pass, tokens) in [4, 4, 1, 1].into_iter().enumerate() {
        let of_pass: Vec<&Value> = spans.iter().filter(|span| span["args"]["pass"] == pass).collect();
        let matrices = |layer: Value| {
            let spans = of_pass.iter().filter(|span| span["args"]["layer"] == layer);
            spans
                .filter(|span| span["cat"] == "int8 matrix" && span["args"]["bytes"].as_u64() > Some(0))
                .count()
        };
        assert_eq!((matrices(0.into()), matrices(1.into())), (4, 4), "pass {pass}");
        assert!(of_pass.iter().any(|span| span["args"]["tokens"] == tokens), "pass {pass}");
    }
    assert!(spans.iter().all(|span| span["dur"].as_f64().unwrap() >= 0.0));
}

#[test]
fn prompts_that_cannot_be_gone_on_from() {
    let place = Place::new();
    place.whole(&demo_model(), &["--context", "64"]);
    let long = "x ".repeat(400);
    for (arguments, words) in [
        (&["--prompt", ""][..], "no tokens"),
        (&["--prompt-ids", "5,999999"], "999999"),
        (&["--prompt", &long], "context of 64"),
        (&["--prompt", "a", "--temperature", "-1"], "temperature"),
        (&["--prompt", "a", "--top-p", "0"], "top-p"),
    ] {
        let ran = place.generate(arguments).expect_code(2);
        assert!(ran.stderr.contains(words), "{arguments:?}: {}", ran.stderr);
    }
    std::fs::write(place.path("notes.txt"), "what I must not lose").unwrap();
    let ran = place.generate(&["--prompt", "a", "--draft-table", "notes.txt"]).expect_code(10);
    assert!(ran.stderr.contains("notes.txt") && ran.stderr.contains("draft table"), "{}", ran.stderr);
    assert_eq!(std::fs::read(place.path("notes.txt")).unwrap(), b"what I must not lose");
}

/// What the message must say, and what is done to the bundle.
type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>);

#[test]
fn bundles_that_cannot_be_trusted() {
    let place = Place::new();
    let model = place.synth("model.gguf", |model| model);
    let bundle = place.whole(&model, &["--context", "64"]);
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        replace(path, &bytes);
    };
    let head = std::fs::read_dir(bundle.join("shards")).unwrap();
    let head =
        head.map(|entry| entry.unwrap().path()).find(|path| path.to_string_lossy().contains("lm_head"));
    let head = head.expect("a head shard").join("model.mil");
    let cases: [Damage<'_>; 4] = [
        ("weight.bin", Box::new(|| flip(&bundle.join("shards/layers_000_002.mlmodelc/weights/weight.bin")))),
        (
            "embedding.safetensors",
            Box::new(|| {
                let path = bundle.join("embedding.safetensors");
                let bytes = std::fs::read(&path).unwrap();
                replace(&path, &bytes[..bytes.len() - 100]);
            }),
        ),
        ("model.mil", Box::new(|| std::fs::remove_file(&head).unwrap())),
        (
            "schema 9",
            Box::new(|| {
                let path = bundle.join("manifest.json");
                let manifest = std::fs::read_to_string(&path).unwrap();
                replace(&path, manifest.replacen("\"schema\": 1", "\"schema\": 9", 1).as_bytes());
            }),
        ),
    ];
    for (words, damage) in cases {
        damage();
        let ran = place.generate(&["--prompt-ids", "1"]).expect_code(10);
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        std::fs::remove_dir_all(&bundle).unwrap();
        place.whole(&model, &["--context", "64"]);
    }
    std::fs::remove_dir_all(&bundle).unwrap();
    place.build(&model, &["--context", "64", "--layers", "0..1"]).expect_ok();
    let part = place.generate(&["--prompt-ids", "1"]).expect_code(10);
    assert!(part.stderr.contains("without --layers"), "{}", part.stderr);
}

/// Writes another file in the place of one that is read-only and shared with the store.
fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// The logits behind every token of `tokens`, looked at in passes of `width` tokens.
fn logits(parts: &Parts, device: &PortableDevice, tokens: &[u32], width: usize) -> Vec<u16> {
    let model = Arc::new(Model::open(parts, device).unwrap());
    let mut session = Session::new(&model).unwrap();
    let mut bits = Vec::new();
    for chunk in tokens.chunks(width) {
        session.pass(chunk).unwrap();
        for slot in 0..chunk.len() {
            bits.extend(session.logits(slot).unwrap().iter().map(|logit| logit.to_bits()));
        }
        session.commit(chunk.len()).unwrap();
    }
    bits
}

#[test]
fn no_bit_depends_on_instructions_threads_or_the_width_of_a_pass() {
    let place = Place::new();
    let out = place.whole(&demo_model(), &["--context", "256", "--widths", "1,4,32"]);
    let parts = Bundle::open(&out).unwrap().parts().unwrap();
    let tokens: Vec<u32> = (0..70).map(|index| (index * 577 + 100) % 2048).collect();
    let plain = PortableDevice::new().with_isa(Isa::BASELINE).with_threads(NonZeroUsize::MIN).unwrap();
    let expected = logits(&parts, &plain, &tokens, 1);
    for isa in Isa::available() {
        for threads in [1, 2] {
            let threads = NonZeroUsize::new(threads).unwrap();
            let device = PortableDevice::new().with_isa(isa).with_threads(threads).unwrap();
            for width in [1, 3, 4, 21, 32] {
                assert!(logits(&parts, &device, &tokens, width) == expected, "{isa:?}, {threads}, {width}");
            }
        }
    }
    // The same through the command, whose prompt goes through the widest passes.
    let prompt = tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let generate = ["--prompt-ids", &prompt, "--max-new", "60", "--ignore-eos"];
    let expected = place.generate(&[&generate[..], &["--isa", "baseline", "--draft", "off"]].concat());
    let expected = expected.expect_ok().json();
    assert_eq!(expected["stats"]["prefill_passes"], 3);
    for isa in Isa::available() {
        for threads in ["1", "2"] {
            let switches = ["--isa", isa.name(), "--threads", threads];
            let answer = place.generate(&[&generate[..], &switches].concat()).expect_ok().json();
            assert_eq!(answer["tokens"], expected["tokens"], "{switches:?}");
        }
    }
    let refused = place.generate(&[&generate[..], &["--isa", "abacus"]].concat());
    assert!(refused.expect_code(2).stderr.contains("this machine has baseline"));
}
