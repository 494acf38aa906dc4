//! The command writes the models that its arguments describe.

use std::{path::Path, process::Command};

use anepipe_gguf::{Gguf, TensorType};

/// Runs `anepipe-testkit synth` in `dir`; its messages, and whether it succeeded.
fn synth(dir: &Path, args: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anepipe-testkit"));
    let output = command.current_dir(dir).arg("synth").args(args.split_whitespace()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_model_is_written_as_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (ok, messages) =
        synth(dir.path(), "--preset tiny --layers 3 --vocab 400 --type f16 --seed 5 --untied --out m.gguf");
    assert!(ok && messages.starts_with("m.gguf: "), "{messages}");
    let model = Gguf::open(&dir.path().join("m.gguf")).unwrap();
    assert_eq!(model.metadata().u32("phi3.block_count").unwrap(), 3);
    assert_eq!(model.metadata().strings("tokenizer.ggml.tokens").unwrap().len(), 400);
    let head = model.tensor("output.weight").unwrap();
    assert_eq!((head.dtype(), head.dims()), (TensorType::F16, [64, 400].as_slice()));
}

#[test]
fn one_tensor_is_altered_and_the_files_are_split() {
    let dir = tempfile::tempdir().unwrap();
    assert!(synth(dir.path(), "--out one.gguf").0);
    assert!(synth(dir.path(), "--alter blk.1.ffn_up.weight --split-max-tensors 7 --out other.gguf").0);
    let one = Gguf::open(&dir.path().join("one.gguf")).unwrap();
    let other = Gguf::open(&dir.path().join("other-00002-of-00003.gguf")).unwrap();
    assert_eq!(other.files().len(), 3);
    let differs: Vec<_> = one
        .tensors()
        .filter(|tensor| other.tensor(tensor.name()).unwrap().bytes() != tensor.bytes())
        .map(|tensor| tensor.name())
        .collect();
    assert_eq!(differs, ["blk.1.ffn_up.weight"]);
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    for (args, message) in [
        ("--vocab 320 --out m.gguf", "a vocabulary has at least 321 tokens"),
        ("--alter no.tensor --out m.gguf", "the model has no tensor \"no.tensor\""),
        ("--out absent/m.gguf", "cannot write absent/m.gguf"),
        ("--type q9 --out m.gguf", "invalid value 'q9'"),
    ] {
        let (ok, messages) = synth(dir.path(), args);
        assert!(!ok && messages.contains(message), "{args}: {messages}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
