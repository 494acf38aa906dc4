//! A pass of one layer of Phi-4-mini's dimensions, beside a plain read of the same weights.
#![allow(missing_docs)] // what the macros below make

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::hint::black_box;

use anepipe_mil::modelc::ModelC;
use anepipe_runtime::device::{Device, Signature};
use anepipe_runtime::portable::PortableDevice;
use anepipe_runtime::tensor::Tensor;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fixture::layer::{PHI_4_MINI, Shard, Weights};
use fixture::random::Random;
use half::f16;
use rayon::prelude::*;

/// Inputs of a pass at `position`, as a session makes them.
fn inputs(signature: &Signature, position: usize) -> Vec<Tensor> {
    let mut random = Random(1);
    let mut tensors = signature.new_inputs();
    for (tensor, port) in tensors.iter_mut().zip(&signature.inputs) {
        let (shape, data) = (port.shape.clone(), tensor.data_mut());
        match port.name.as_str() {
            "attn_mask" => {
                let hidden = f16::from_f32(-40000.0);
                for (slot, row) in data.chunks_mut(shape[3]).enumerate() {
                    row[position + slot + 1..].fill(hidden);
                }
            }
            "kv_write_mask" => {
                (0..shape[3]).for_each(|slot| data[(position + slot) * shape[3] + slot] = f16::ONE);
            }
            _ => data.iter_mut().for_each(|value| *value = f16::from_f32(random.normal())),
        }
    }
    tensors
}

/// Reads every byte, on all threads.
fn read(weights: &[u8]) -> u64 {
    weights
        .par_chunks(1 << 20)
        .map(|part| {
            part.chunks_exact(8)
                .fold(0, |sum, word| sum ^ u64::from_le_bytes(word.try_into().unwrap_or_default()))
        })
        .reduce(|| 0, |a, b| a ^ b)
}

fn layer(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for weights in [Weights::PerRow, Weights::Half] {
        let mut group = criterion.benchmark_group(format!("layer/{weights:?}"));
        group
            .sample_size(20)
            .throughput(Throughput::Bytes(Shard { weights, ..PHI_4_MINI }.weight_bytes() as u64));
        for width in [1, 4] {
            let shard = Shard { width, weights, ..PHI_4_MINI };
            let path = directory.path().join(format!("{weights:?}{width}.mlmodelc"));
            shard.save(&path, 3);
            if width == 1 {
                let model = ModelC::open(&path).expect("a model");
                let bytes: Vec<&[u8]> = model
                    .weights()
                    .values()
                    .flat_map(|file| file.blobs().filter_map(Result::ok).map(|(_, blob)| blob.data))
                    .collect();
                group.bench_function("read", |bencher| {
                    bencher.iter(|| bytes.iter().map(|bytes| read(bytes)).fold(0, |a, b| black_box(a ^ b)));
                });
            }
            let loaded = PortableDevice::new().load(&path).expect("a shard");
            let mut outputs = loaded.functions()[0].signature.new_outputs();
            for position in [16, 1900] {
                let tensors = inputs(&loaded.functions()[0].signature, position);
                let mut state = loaded.new_state();
                let id = BenchmarkId::new(format!("T={width}"), position);
                group.bench_function(id, |bencher| {
                    bencher
                        .iter(|| loaded.predict(0, &tensors, state.as_mut(), &mut outputs).expect("a pass"));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, layer);
criterion_main!(benches);
