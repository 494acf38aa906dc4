use std::fs;

use anepipe_mil::blob::WeightFile;
use safetensors::Dtype;

use super::*;
use crate::tensors::{TensorSpec, TensorWriter};

/// Weights, a table and coremltools' own weight file.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weight_file").join(name)
}

fn weights() -> Vec<PathBuf> {
    ["slot0.safetensors", "slot1.safetensors", "last.safetensors"].map(fixture).to_vec()
}

/// A folder with a program of a few bytes, and a package to come.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("model.mlmodel"), b"a program").expect("a program");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn convert(&self, table: &Path, weights: &[PathBuf]) -> Result<PathBuf, ConvertError> {
        let output = self.path("out.mlpackage");
        convert(&self.path("model.mlmodel"), table, weights, &output).map(|()| output)
    }

    /// What a conversion says that leaves nothing behind.
    fn error(&self, table: &Path, weights: &[PathBuf]) -> String {
        let names = || {
            let entries = fs::read_dir(self.folder.path()).expect("the folder");
            let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
            names.sort();
            names
        };
        let before = names();
        let error = self.convert(table, weights).expect_err("an error").to_string();
        assert_eq!(names(), before);
        error
    }

    /// A weight file of one tensor.
    fn tensor(&self, name: &str, dtype: Dtype, shape: &[usize]) -> PathBuf {
        let path = self.path(&format!("{name} {dtype} {shape:?}"));
        let spec = TensorSpec::new(name, dtype, shape);
        let bytes = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
        let writer = TensorWriter::create(&path, vec![spec]).expect("a writer");
        writer.write_at(0, 0, &bytes).expect("written");
        writer.finish().expect("a file");
        path
    }

    /// The table with one text put for another.
    fn table(&self, from: &str, to: &str) -> PathBuf {
        let text = fs::read_to_string(fixture("blobs.json")).expect("the table");
        assert!(text.contains(from));
        let path = self.path("blobs.json");
        fs::write(&path, text.replace(from, to)).expect("a table");
        path
    }
}

/// Every file below a folder, with its bytes.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            files.push((path.clone(), fs::read(&path).expect("a file")));
        }
    }
    files.sort();
    files
}

#[test]
fn the_weight_file_is_the_one_coremltools_writes() {
    let output = Scene::new().convert(&fixture("blobs.json"), &weights()).map(|path| tree(&path));
    let files = output.expect("a package");
    let names: Vec<_> = files.iter().map(|(path, _)| path.file_name().expect("a name")).collect();
    assert_eq!(names, ["model.mlmodel", "weight.bin", "Manifest.json"]);
    assert_eq!(files[0].1, b"a program");
    assert!(files[1].1 == fs::read(fixture("weight.bin")).expect("coremltools' file"));
}

#[test]
fn slots_are_filled_in_the_order_of_the_files() {
    let scene = Scene::new();
    let [first, second, last] =
        ["slot0", "slot1", "last"].map(|name| fixture(&format!("{name}.safetensors")));
    let output = scene.convert(&fixture("blobs.json"), &[second, first.clone(), last]).expect("a package");
    let package = Package::open(&output).expect("a package");
    let weights = WeightFile::open(package.weight_path()).expect("its weights");
    let (_, blob) = weights.blobs().map(Result::unwrap).nth(5).expect("the norm of slot 1");
    let norm = TensorFile::open(&first).expect("slot 0's file").tensor("ffn_norm").expect("its norm").read();
    assert_eq!(blob.data, norm.expect("bytes"));
}

#[test]
fn a_package_is_the_same_every_time() {
    let trees = [(); 2].map(|()| {
        let scene = Scene::new();
        let output = scene.convert(&fixture("blobs.json"), &weights()).expect("a package");
        let files = tree(&output);
        files
            .into_iter()
            .map(|(path, bytes)| (path.strip_prefix(&output).expect("inside").to_owned(), bytes))
            .collect::<Vec<_>>()
    });
    assert_eq!(trees[0], trees[1]);
}

#[test]
fn graph_and_weights_of_different_shards_are_told_apart() {
    let scene = Scene::new();
    let table = fixture("blobs.json");
    let with = |index: usize, path: PathBuf| {
        let mut files = weights();
        files[index] = path;
        files
    };
    for (files, expected) in [
        (weights()[..1].to_vec(), "wants weights for slot 1, and there are 1 weight files"),
        (weights()[..2].to_vec(), "wants `output_norm` from one weight file, and 0 of 2 have it"),
        (
            [weights(), weights()[2..].to_vec()].concat(),
            "`output_norm` from one weight file, and 2 of 4 have it",
        ),
        (
            [weights(), weights()[..1].to_vec()].concat(),
            "slot0.safetensors; graph and weights are of different shards",
        ),
        (with(1, scene.tensor("x", Dtype::I8, &[1])), "there is no tensor `ffn_norm`; it has x"),
        (
            with(2, scene.tensor("output_norm", Dtype::F16, &[12])),
            "blob `output_norm_weight` wants F16 [13], 26 bytes, and `output_norm` in",
        ),
    ] {
        let error = scene.error(&table, &files);
        assert!(error.contains(expected), "{error}");
    }
    let error = scene.error(&table, &with(2, scene.tensor("output_norm", Dtype::F32, &[13])));
    assert!(error.contains("wants F16 [13], 26 bytes, and `output_norm`"), "{error}");
    assert!(
        error.ends_with("is F32 [13], 52 bytes; graph and weights are of different shards or quantizations")
    );
}

#[test]
fn a_damaged_table_is_refused() {
    let scene = Scene::new();
    let table = scene.table("\"record\": 192", "\"record\": 193");
    let error = scene.error(&table, &weights());
    assert!(error.contains("l0_gate_up_int8"), "{error}");
    let absent = scene.path("absent.json");
    assert!(scene.error(&absent, &weights()).contains("absent.json"));
}

#[test]
fn what_is_there_is_not_written_over() {
    let scene = Scene::new();
    scene.convert(&fixture("blobs.json"), &weights()).expect("a package");
    let before = tree(scene.folder.path());
    let error = scene.error(&fixture("blobs.json"), &weights());
    assert!(error.contains("could not create") && error.contains("out.mlpackage"), "{error}");
    assert_eq!(tree(scene.folder.path()), before);
}

#[test]
fn a_program_that_is_absent_is_named() {
    let scene = Scene::new();
    fs::remove_file(scene.path("model.mlmodel")).expect("removed");
    let error = scene.error(&fixture("blobs.json"), &weights());
    assert!(error.contains("could not copy the program") && error.contains("model.mlmodel"), "{error}");
}
