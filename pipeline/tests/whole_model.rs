//! What only a bundle of the whole model has, through every stage and on the portable device: slices of the LM head, and
//! the norm behind the last layer.
#![cfg(target_os = "linux")]

mod python;

use std::path::{Path, PathBuf};

use anepipe_gguf::Gguf;
use anepipe_pipeline::build::rope_of;
use anepipe_pipeline::contract::{Contract, OUTPUT_NORM};
use anepipe_pipeline::python::Worker;
use anepipe_pipeline::stages::extract::Weights;
use anepipe_pipeline::stages::graph::{self, BLOBS_FILE, GraphSpec, HeadSpec, LayersSpec, MODEL_FILE, Style};
use anepipe_pipeline::stages::parity::function_name;
use anepipe_pipeline::stages::quantize::{self, Quantization};
use anepipe_pipeline::stages::{compile, convert, extract};
use anepipe_pipeline::tensors::TensorFile;
use anepipe_runtime::device::Device as _;
use anepipe_runtime::pass::BlockPass;
use anepipe_runtime::portable::PortableDevice;
use anepipe_runtime::rope::Rope;
use anepipe_testkit::Encoding;
use anepipe_testkit::synth::{Dimensions, Synth};
use half::f16;

const CONTEXT: u32 = 32;
const WIDTHS: [u32; 2] = [1, 4];

/// A model file, its contract, and a worker that builds graphs.
struct Scene {
    folder: tempfile::TempDir,
    gguf: Gguf,
    contract: Contract,
    worker: Worker,
}

/// What takes weights from a model file.
type Part<'p> = &'p dyn for<'a> Fn(&'a Gguf, &Contract) -> Weights<'a>;

fn layer_1<'a>(gguf: &'a Gguf, contract: &Contract) -> Weights<'a> {
    extract::layer(gguf, contract, 1).unwrap()
}

fn output_norm<'a>(gguf: &'a Gguf, contract: &Contract) -> Weights<'a> {
    extract::output_norm(gguf, contract).unwrap()
}

impl Scene {
    fn new(model: &Synth) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        model.write(&path).unwrap();
        let gguf = Gguf::open(&path).unwrap();
        let contract = Contract::read(&gguf, CONTEXT).unwrap();
        Self { folder, gguf, contract, worker: python::worker() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Quantizes what each of `parts` takes from the model file, binds it to the graph of `spec`, and compiles.
    fn compiled(
        &mut self,
        name: &str,
        spec: &GraphSpec,
        quantization: Quantization,
        parts: &[Part<'_>],
    ) -> PathBuf {
        let folder = self.path(name);
        graph::run(&mut self.worker, spec, &folder).unwrap();
        let mut weights = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let output = folder.join(format!("{index}.safetensors"));
            quantize::quantize(&part(&self.gguf, &self.contract), &output, quantization).unwrap();
            weights.push(output);
        }
        let package = folder.join("shard.mlpackage");
        convert::convert(&folder.join(MODEL_FILE), &folder.join(BLOBS_FILE), &weights, &package).unwrap();
        let modelc = folder.join("shard.mlmodelc");
        compile::run(&package, &modelc).unwrap();
        modelc
    }

    fn layer_spec(&self, output_norm: bool) -> GraphSpec {
        let contract = &self.contract;
        GraphSpec::Layers(LayersSpec {
            style: Style::Stateful,
            widths: WIDTHS.to_vec(),
            hidden: contract.hidden.value,
            heads: contract.heads.value,
            kv_heads: contract.kv_heads.value,
            head_dim: contract.head_dim.value,
            ffn: contract.ffn.value,
            rope_dim: contract.rope_dim.value,
            norm_eps: f64::from(contract.norm_eps.value),
            context: CONTEXT,
            layers: 1,
            quantization: Quantization::Int8.into(),
            output_norm,
            qkv_bias: false,
            fault: None,
        })
    }
}

/// One pass of `rows` from position 0 on through the shard's function of that width. One row a token comes out.
fn pass(modelc: &Path, width: u32, rope: Option<&Rope>, rows: &[Vec<f16>]) -> Vec<Vec<f32>> {
    let shard = PortableDevice::new().load(modelc).unwrap();
    let function = shard.find(&function_name(&WIDTHS, width)).unwrap();
    let signature = &shard.functions()[function].signature;
    let mut pass = BlockPass::new(signature, rope).unwrap();
    let rows: Vec<&[f16]> = rows.iter().map(Vec::as_slice).collect();
    pass.prepare(0, &rows).unwrap();
    let (mut state, mut outputs) = (shard.new_state(), signature.new_outputs());
    shard.predict(function, pass.inputs(), &mut *state, &mut outputs).unwrap();
    let row = |slot| pass.layout().row(&outputs[0], slot).unwrap().map(f16::to_f32).collect();
    (0..rows.len()).map(row).collect()
}

/// Hidden states of rms about 1 that repeat nowhere.
fn hidden_states(count: usize, width: usize) -> Vec<Vec<f16>> {
    let value = |index: usize| f16::from_f32((index as f32 * 0.731).sin() + (index as f32 * 0.0173).cos());
    (0..count).map(|row| (0..width).map(|column| value(row * width + column)).collect()).collect()
}

/// The elements of a tensor, whatever its type.
fn values(file: &TensorFile, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap();
    let bytes = tensor.read().unwrap();
    match tensor.dtype() {
        safetensors::Dtype::I8 => bytes.iter().map(|&byte| f32::from(byte.cast_signed())).collect(),
        safetensors::Dtype::F16 => {
            bytes.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect()
        }
        other => panic!("{name} is {other}"),
    }
}

/// The largest difference, against the largest value expected.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, f32::max);
    let difference = largest(&mut found.iter().zip(expected).map(|(a, b)| (a - b).abs()));
    difference / largest(&mut expected.iter().map(|value| value.abs()))
}

/// Half a unit in the last place of fp16, relative.
const HALF_ULP: f32 = 1.0 / 2048.0;

fn model() -> Synth {
    Synth::new(Dimensions::tiny(), Encoding::Q8_0, 1).unwrap()
}

#[test]
fn the_slices_of_a_head_give_the_logits_of_their_tokens() {
    for model in [model(), model().untied().unwrap()] {
        let mut scene = Scene::new(&model);
        let (hidden, vocab) = (scene.contract.hidden.value, scene.contract.vocab.value);
        let states = hidden_states(4, hidden as usize);
        let source = scene.gguf.tensor(scene.contract.head_tensor()).unwrap();
        let mut original = vec![0.0; (vocab * hidden) as usize];
        source.dequantize_rows_f32(0..u64::from(vocab), &mut original).unwrap();
        // The second slice begins where the first ends, and is shorter.
        for rows in [0..200, 200..vocab] {
            let count = rows.end - rows.start;
            let (start, end) = (rows.start, rows.end);
            let head: Part<'_> = &|gguf, contract| extract::head(gguf, contract, start..end).unwrap();
            // What int8 costs here, measured: 0.0053 with a scale a row, 0.0107 with one for all.
            for (quantization, limit) in [
                (Quantization::F16, HALF_ULP),
                (Quantization::Int8, 0.02),
                (Quantization::Int8PerTensor, 0.04),
            ] {
                let spec = GraphSpec::LmHead(HeadSpec {
                    style: Style::Stateful,
                    widths: WIDTHS.to_vec(),
                    hidden,
                    quantization: quantization.into(),
                    rows: count,
                });
                let name = format!("{} {} {quantization}", scene.contract.head_tensor(), rows.start);
                let modelc = scene.compiled(&name, &spec, quantization, &[head]);
                let stored = TensorFile::open(&scene.path(&name).join("0.safetensors")).unwrap();
                let stored = stored_matrix(&stored, quantization);
                let original = &original[(rows.start * hidden) as usize..(rows.end * hidden) as usize];
                for width in WIDTHS {
                    let states = &states[..width as usize];
                    for (state, logits) in states.iter().zip(pass(&modelc, width, None, states)) {
                        let off = error(&logits, &product(&stored, state));
                        assert!(off <= HALF_ULP, "{name}, width {width}: {off} from what is stored");
                        let off = error(&logits, &product(original, state));
                        assert!(off <= limit, "{name}, width {width}: {off} from the model file");
                    }
                }
            }
        }
    }
}

/// The head's matrix as a quantized file holds it.
fn stored_matrix(file: &TensorFile, quantization: Quantization) -> Vec<f32> {
    if quantization == Quantization::F16 {
        return values(file, "lm_head.weight");
    }
    let (mut matrix, scales) = (values(file, "lm_head.int8"), values(file, "lm_head.scale"));
    let per_scale = matrix.len() / scales.len();
    for (row, scale) in matrix.chunks_exact_mut(per_scale).zip(scales) {
        for value in row {
            *value *= scale;
        }
    }
    matrix
}

fn product(matrix: &[f32], state: &[f16]) -> Vec<f32> {
    let dot = |row: &[f32]| row.iter().zip(state).map(|(a, b)| a * b.to_f32()).sum();
    matrix.chunks_exact(state.len()).map(dot).collect()
}

#[test]
fn the_last_shard_ends_with_the_output_norm() {
    let mut scene = Scene::new(&model().reseed(OUTPUT_NORM, 7).unwrap());
    let int8 = Quantization::Int8;
    let spec = scene.layer_spec(false);
    let plain = scene.compiled("plain", &spec, int8, &[&layer_1]);
    let spec = scene.layer_spec(true);
    let normed = scene.compiled("normed", &spec, int8, &[&layer_1, &output_norm]);

    let width = scene.contract.hidden.value as usize;
    let mut weights = vec![0.0; width];
    scene.gguf.tensor(OUTPUT_NORM).unwrap().dequantize_rows_f32(0..1, &mut weights).unwrap();
    assert!(
        weights.iter().any(|&weight| (weight - weights[0]).abs() > 0.01),
        "a norm without weights could not be told apart"
    );
    let rope = Rope::new(&rope_of(&scene.contract, None)).unwrap();
    for count in WIDTHS {
        let states = hidden_states(count as usize, width);
        let before = pass(&plain, count, Some(&rope), &states);
        let after = pass(&normed, count, Some(&rope), &states);
        for (before, after) in before.iter().zip(&after) {
            let mean = before.iter().map(|x| x * x).sum::<f32>() / width as f32;
            let scale = (mean + scene.contract.norm_eps.value).sqrt().recip();
            let expected: Vec<f32> = before.iter().zip(&weights).map(|(x, w)| x * scale * w).collect();
            // The norm is 13 operations, each rounded to fp16; measured: 1.5 halves of a unit.
            let off = error(after, &expected);
            assert!(off <= 3.0 * HALF_ULP, "width {count}: {off}");
            assert!(error(after, before) > 0.05, "the norm changed nothing");
        }
    }
}

#[test]
fn a_shard_without_its_norm_and_one_with_it_take_different_weights() {
    let mut scene = Scene::new(&model());
    let (layer, norm): (Part<'_>, Part<'_>) = (&layer_1, &output_norm);
    for (name, spec, parts, expected) in [
        ("bare", scene.layer_spec(true), vec![layer], "wants `output_norm` from one weight file, and 0 of 1"),
        ("spare", scene.layer_spec(false), vec![layer, norm], "wants `output_norm`, which is in"),
    ] {
        let folder = scene.path(name);
        graph::run(&mut scene.worker, &spec, &folder).unwrap();
        let weights: Vec<PathBuf> = (0..parts.len()).map(|index| folder.join(format!("{index}"))).collect();
        for (part, to) in parts.iter().zip(&weights) {
            quantize::quantize(&part(&scene.gguf, &scene.contract), to, Quantization::Int8).unwrap();
        }
        let package = folder.join("shard.mlpackage");
        let converted =
            convert::convert(&folder.join(MODEL_FILE), &folder.join(BLOBS_FILE), &weights, &package);
        let error = converted.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
