//! What a profiler is told: every kernel of a pass, in order, with what it reads, and with nothing changed by telling.

mod fixture;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use anepipe_runtime::device::{Device, Shard as Loaded};
use anepipe_runtime::portable::{Executor, KernelKind, KernelRun, PortableDevice, Profiler};
use fixture::layer::{Shard, Weights};
use fixture::random::Random;
use half::f16;

const SMALL: Shard = Shard {
    hidden: 48,
    heads: 4,
    kv_heads: 2,
    head_dim: 16,
    ffn: 64,
    rope: 12,
    context: 40,
    width: 4,
    layers: 2,
    weights: Weights::PerRow,
    scale_scores: false,
    bias: false,
};

/// What a run of a kernel was said to be: place, operation, kind, bytes of weights.
type Told = (usize, String, KernelKind, usize);

/// Keeps what it is told, and when.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(Told, Instant, Instant)>>);

impl Profiler for Notes {
    fn ran(&self, run: &KernelRun<'_>) {
        assert_eq!(run.function, "main");
        assert!(run.shard.ends_with("layers.mlmodelc"));
        let told = (run.step, run.operation.to_owned(), run.kernel, run.weight_bytes);
        self.0.lock().unwrap().push((told, run.began, run.began + run.took));
    }
}

/// The bits of two passes over the same inputs.
fn run(loaded: &dyn Loaded) -> Vec<Vec<u16>> {
    let signature = &loaded.functions()[0].signature;
    let mut random = Random(3);
    let mut inputs = signature.new_inputs();
    for (tensor, port) in inputs.iter_mut().zip(&signature.inputs) {
        if !port.name.ends_with("mask") {
            tensor.data_mut().fill_with(|| f16::from_f32(random.normal()));
        }
    }
    let mut state = loaded.new_state();
    let mut pass = || {
        let mut outputs = signature.new_outputs();
        loaded.predict(0, &inputs, state.as_mut(), &mut outputs).unwrap();
        outputs[0].data().iter().map(|value| value.to_bits()).collect()
    };
    vec![pass(), pass()]
}

#[test]
fn every_kernel_of_every_pass_is_told_of_in_order_with_its_weights() {
    for weights in [Weights::PerRow, Weights::Half] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layers.mlmodelc");
        let shard = Shard { weights, ..SMALL };
        shard.save(&path, 3);
        let notes = Arc::new(Notes::default());
        let plain = run(PortableDevice::new().load(&path).unwrap().as_ref());
        let device = PortableDevice::new().with_profiler(notes.clone());
        assert_eq!(run(device.load(&path).unwrap().as_ref()), plain, "{weights:?}");

        let told = std::mem::take(&mut *notes.0.lock().unwrap());
        let (first, second) = told.split_at(told.len() / 2);
        let what = |half: &[(Told, Instant, Instant)]| {
            half.iter().map(|(told, ..)| told.clone()).collect::<Vec<_>>()
        };
        assert_eq!(what(first), what(second));
        assert!(first.iter().enumerate().all(|(index, (told, ..))| told.0 == index && !told.1.is_empty()));
        assert!(told.windows(2).all(|pair| pair[0].2 <= pair[1].1), "one kernel after the other");

        let count = |kind| first.iter().filter(|(told, ..)| told.2 == kind).count();
        let matrix = if weights == Weights::Half { KernelKind::HalfMatrix } else { KernelKind::Int8Matrix };
        for (kind, expected) in [
            (matrix, 4 * SMALL.layers),
            (KernelKind::Attention, SMALL.layers),
            (KernelKind::CacheUpdate, 2 * SMALL.layers),
            (KernelKind::Masks, 2),
            (KernelKind::Norm, 2 * SMALL.layers),
            (KernelKind::Product, 0),
        ] {
            assert_eq!(count(kind), expected, "{weights:?} {kind}");
        }
        let bytes: usize = first.iter().map(|(told, ..)| told.3).sum();
        let rows = (SMALL.heads + 2 * SMALL.kv_heads) * SMALL.head_dim + 2 * SMALL.ffn + 2 * SMALL.hidden;
        let scales = if weights == Weights::PerRow { SMALL.layers * rows * size_of::<f16>() } else { 0 };
        assert_eq!(bytes, shard.weight_bytes() + scales, "{weights:?}");
        assert!(first.iter().all(|(told, ..)| (told.3 > 0) == (told.2 == matrix)));
    }
}

#[test]
fn the_interpreter_has_no_kernels_to_tell_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layers.mlmodelc");
    SMALL.save(&path, 3);
    let notes = Arc::new(Notes::default());
    let device = PortableDevice::new().with_executor(Executor::Interpreter).with_profiler(notes.clone());
    run(device.load(&path).unwrap().as_ref());
    assert!(notes.0.lock().unwrap().is_empty());
}
