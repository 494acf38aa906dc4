//! What an observer is told: what the interpreter computes, with nothing changed by looking.

mod fixture;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anepipe_runtime::device::{Device, Shard as Loaded, State};
use anepipe_runtime::portable::{Executor, Kind, Observed, Observer, PortableDevice, Side};
use anepipe_runtime::tensor::Tensor;
use fixture::layer::{Shard, Weights};
use fixture::random::Random;
use half::f16;

const CONTEXT: usize = 40;
const WIDTH: usize = 4;
const PASSES: usize = 6;

/// Every tensor of every pass, by operation and side, in order.
type Told = BTreeMap<(String, bool), Vec<Tensor16>>;

/// What was told of one tensor: what computes it, its shape, its elements.
type Tensor16 = (Kind, Vec<usize>, Vec<f16>);

/// Keeps what it is told.
#[derive(Debug, Default)]
struct Notes(Mutex<Told>);

impl Observer for Notes {
    fn observe(&self, observed: &Observed<'_>) {
        assert_eq!(observed.shape.iter().product::<usize>(), observed.values.len(), "{observed:?}");
        assert_eq!(observed.function, "main");
        assert!(observed.shard.ends_with("layers.mlmodelc"));
        let key = (observed.operation.to_owned(), observed.side == Side::Input);
        let told = (observed.kind, observed.shape.to_vec(), observed.values.to_vec());
        self.0.lock().unwrap().entry(key).or_default().push(told);
    }
}

fn shard(kv_heads: usize, weights: Weights, scale_scores: bool) -> Shard {
    Shard {
        hidden: 48,
        heads: 2 * kv_heads,
        kv_heads,
        head_dim: 16,
        ffn: 64,
        rope: 12,
        context: CONTEXT,
        width: WIDTH,
        layers: 2,
        weights,
        scale_scores,
        bias: false,
    }
}

/// The inputs of the pass whose first slot stands at `position`.
fn inputs(loaded: &dyn Loaded, position: usize) -> Vec<Tensor> {
    let signature = &loaded.functions()[0].signature;
    let mut random = Random(position as u64 + 1);
    let mut inputs = signature.new_inputs();
    for (tensor, port) in inputs.iter_mut().zip(&signature.inputs) {
        let data = tensor.data_mut();
        match port.name.as_str() {
            "attn_mask" => {
                for (slot, row) in data.chunks_mut(CONTEXT).enumerate() {
                    row[position + slot + 1..].fill(f16::from_f32(-40000.0));
                }
            }
            "kv_write_mask" => (0..WIDTH).for_each(|slot| data[(position + slot) * WIDTH + slot] = f16::ONE),
            _ => data.fill_with(|| f16::from_f32(3.0 * random.normal())),
        }
    }
    inputs
}

/// The bits of every output of every pass, then those of the states.
fn run(loaded: &dyn Loaded) -> Vec<Vec<u16>> {
    let signature = &loaded.functions()[0].signature;
    let mut state = loaded.new_state();
    let bits = |values: &[f16]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let mut all = Vec::new();
    for pass in 0..PASSES {
        let mut outputs = signature.new_outputs();
        loaded.predict(0, &inputs(loaded, pass * WIDTH), state.as_mut(), &mut outputs).unwrap();
        all.extend(outputs.iter().map(|output| bits(output.data())));
    }
    let read = |state: &dyn State, name: &str| bits(&state.read(name).unwrap());
    all.extend(signature.states.iter().map(|port| read(state.as_ref(), &port.name)));
    all
}

fn told(device: &PortableDevice, path: &Path) -> (Told, Vec<Vec<u16>>) {
    let notes = Arc::new(Notes::default());
    let loaded = device.clone().with_observer(notes.clone()).load(path).unwrap();
    let bits = run(loaded.as_ref());
    let told = std::mem::take(&mut *notes.0.lock().unwrap());
    (told, bits)
}

/// The interpreter's scores where a slot sees, zero elsewhere, of as many positions as the plan tells of.
fn seen_scores(planned: &Tensor16, judged: &Tensor16, position: usize) -> Vec<f16> {
    assert_eq!(judged.0, Kind::Product);
    let &[1, heads, WIDTH, CONTEXT] = judged.1.as_slice() else { panic!("{:?}", judged.1) };
    let &[1, same_heads, WIDTH, positions] = planned.1.as_slice() else { panic!("{:?}", planned.1) };
    assert!(same_heads == heads && positions >= position + WIDTH, "{:?}", planned.1);
    let rows = judged.2.chunks_exact(CONTEXT).enumerate();
    let seen = |(row, scores): (usize, &[f16])| -> Vec<f16> {
        let last = position + row % WIDTH;
        let seen = |(at, &score): (usize, &f16)| if at <= last { score } else { f16::ZERO };
        scores.iter().enumerate().take(positions).map(seen).collect()
    };
    rows.flat_map(seen).collect()
}

/// Shards whose attention is written in every way that the plan knows, and in one that it does not join.
const SHARDS: [(usize, Weights, bool); 4] = [
    (3, Weights::PerRow, false),
    (2, Weights::PerTensor, true),
    (1, Weights::PerRow, false),
    (2, Weights::Half, false),
];

#[test]
fn looking_changes_no_bit() {
    for (kv_heads, weights, scale_scores) in SHARDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layers.mlmodelc");
        shard(kv_heads, weights, scale_scores).save(&path, 3);
        for executor in [Executor::Plan, Executor::Interpreter] {
            let device = PortableDevice::new().with_executor(executor);
            let unobserved = run(device.load(&path).unwrap().as_ref());
            let (told, observed) = told(&device, &path);
            assert_eq!(observed, unobserved, "{weights:?} {executor:?}");
            assert!(told.values().all(|passes| passes.len() == PASSES), "{weights:?} {executor:?}");
        }
    }
}

#[test]
fn the_plan_tells_of_the_interpreters_values_and_of_all_that_are_computed_outside_attention_and_cache_updates()
 {
    for (kv_heads, weights, scale_scores) in SHARDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layers.mlmodelc");
        let shard = shard(kv_heads, weights, scale_scores);
        shard.save(&path, 3);
        let (planned, _) = told(&PortableDevice::new(), &path);
        let (judged, _) = told(&PortableDevice::new().with_executor(Executor::Interpreter), &path);
        let mut scores = 0;
        for (key, passes) in &planned {
            for (pass, (planned, judged)) in passes.iter().zip(&judged[key]).enumerate() {
                if planned.0 == Kind::Scores {
                    assert_eq!(planned.2, seen_scores(planned, judged, pass * WIDTH), "{key:?}");
                    scores += 1;
                } else {
                    assert_eq!(planned, judged, "{key:?}");
                }
            }
        }
        assert_eq!(scores, PASSES * shard.layers * kv_heads);

        // Per cache three results, per head what stands between its scores and its sum, and the sum where heads are joined.
        let fused = 2 * 3 + kv_heads * (2 + usize::from(scale_scores) + usize::from(kv_heads > 1));
        let untold: Vec<_> = judged
            .iter()
            .filter(|(key, passes)| !planned.contains_key(*key) && passes[0].0 != Kind::Movement)
            .collect();
        assert_eq!(untold.len(), shard.layers * fused, "{weights:?}");
        assert!(untold.iter().all(|((_, input), _)| !input), "a convolution's input is not told of");
    }
}

#[test]
fn what_convolutions_are_applied_to_is_told_with_how_their_weights_are_stored() {
    for (weights, kind) in [
        (Weights::PerRow, Kind::Int8Convolution),
        (Weights::Affine, Kind::Int8Convolution),
        (Weights::Half, Kind::HalfConvolution),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layers.mlmodelc");
        let shard = shard(2, weights, false);
        shard.save(&path, 3);
        let (told, _) = told(&PortableDevice::new(), &path);
        let inputs: Vec<_> = told.iter().filter(|((_, input), _)| *input).collect();
        assert_eq!(inputs.len(), 4 * shard.layers);
        let mut channels: Vec<usize> = inputs.iter().map(|(_, passes)| passes[0].1[1]).collect();
        channels.sort_unstable();
        // The hidden width goes into qkv and into gate and up; what attention and the feed-forward part give is 64 wide here.
        assert_eq!(channels, [48, 48, 48, 48, 64, 64, 64, 64], "{weights:?}");
        assert!(inputs.iter().all(|(_, passes)| passes.iter().all(|pass| pass.0 == kind)), "{weights:?}");
    }
}
