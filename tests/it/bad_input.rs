//! Bad input ends with its own exit code and message; it leaves no output, and the store as it was.

use std::path::PathBuf;

use crate::harness::{Place, demo_model};

/// Makes an input in a folder.
type Make = fn(&Place) -> PathBuf;

#[test]
fn models_that_cannot_be_built() {
    // What it is, how it is made, more arguments, the exit code, words of the message.
    type Case = (&'static str, Make, &'static [&'static str], i32, &'static [&'static str]);
    let cases: [Case; 7] = [
        ("an empty file", |p| written(p, b""), &[], 10, &["bad.gguf"]),
        ("a truncated file", truncated, &[], 10, &["bad.gguf"]),
        ("a folder", folder, &[], 10, &["bad.gguf"]),
        ("a key is missing", keyless, &[], 10, &["phi3.attention.head_count"]),
        ("another architecture", foreign, &[], 11, &["general.architecture", "mamba"]),
        ("NaN in a weight", spoiled, &[], 10, &["blk.1.ffn_down.weight"]),
        ("layers that are not there", |_| demo_model(), &["--layers", "0..999"], 2, &["0..999"]),
    ];
    for (name, make, options, code, words) in cases {
        let place = Place::new();
        let model = make(&place);
        let ran = place.build(&model, &[&["--context", "64"], options].concat());
        assert_eq!(ran.code, code, "{name}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{name}: no {word:?} in {}", ran.stderr);
        }
        assert!(!place.path("out").exists(), "{name}: an output was left");
        place.assert_sound();
    }
}

fn written(place: &Place, bytes: &[u8]) -> PathBuf {
    let path = place.path("bad.gguf");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn truncated(place: &Place) -> PathBuf {
    let bytes = std::fs::read(place.synth("whole.gguf", |model| model)).unwrap();
    written(place, &bytes[..bytes.len() / 2])
}

fn folder(place: &Place) -> PathBuf {
    std::fs::create_dir(place.path("bad.gguf")).unwrap();
    place.path("bad.gguf")
}

fn keyless(place: &Place) -> PathBuf {
    place.synth("bad.gguf", |model| model.without_key("phi3.attention.head_count").unwrap())
}

fn foreign(place: &Place) -> PathBuf {
    place.synth("bad.gguf", |model| model.with_key("general.architecture", "mamba"))
}

fn spoiled(place: &Place) -> PathBuf {
    place.synth("bad.gguf", |model| model.spoil("blk.1.ffn_down.weight", 7, f32::NAN).unwrap())
}
