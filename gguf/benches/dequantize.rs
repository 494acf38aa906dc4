//! How fast each type is dequantized on one core, in bytes of output: `cargo bench -p anepipe-gguf`.
//!
//! Rows of 3072 weights, 32 at a time, from a tensor of 12.6 M weights, as a stage reads them: blocks come from memory, what they
//! become stays in the cache. `finite` is the search for what no model should have.
#![allow(missing_docs)] // criterion's own functions

use std::cell::Cell;
use std::hint::black_box;

use anepipe_gguf::{Gguf, TensorType, first_non_finite_f16, first_non_finite_f32};
use anepipe_testkit::{GgufWriter, SplitMix64};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::f16;

const COLUMNS: u64 = 3072;
const ROWS: u64 = 4096;
const SLICE: u64 = 32;

fn dequantize(c: &mut Criterion) {
    let weights = (SLICE * COLUMNS) as usize;
    for (to, size) in [("f32", 4), ("f16", 2)] {
        let mut group = c.benchmark_group(format!("dequantize to {to}"));
        group.throughput(Throughput::Bytes((weights * size) as u64));
        for dtype in TensorType::known().filter(|dtype| dtype.can_dequantize()) {
            let (Some(len), Some(bytes)) = (dtype.block_len(), dtype.block_bytes()) else { continue };
            let content = SplitMix64::new(1).bytes((COLUMNS / len * bytes * ROWS) as usize);
            let file = GgufWriter::new().tensor("t", &[COLUMNS, ROWS], dtype.id(), content).to_bytes();
            let model = Gguf::from_bytes("dequantize.gguf", file).expect("a model");
            let tensor = model.tensor("t").expect("its tensor");
            let next = Cell::new(0);
            let slice = || {
                let start = next.get();
                next.set((start + SLICE) % ROWS);
                start..start + SLICE
            };
            let (mut wide, mut narrow) = (vec![0.0_f32; weights], vec![f16::ZERO; weights]);
            group.bench_function(dtype.to_string(), |bencher| {
                bencher.iter(|| match size {
                    4 => tensor.dequantize_rows_f32(slice(), black_box(&mut wide)),
                    _ => tensor.dequantize_rows_f16(slice(), black_box(&mut narrow)),
                });
            });
        }
        group.finish();
    }

    let mut group = c.benchmark_group("finite");
    let (wide, narrow) = (vec![1.0_f32; weights], vec![f16::ONE; weights]);
    group.throughput(Throughput::Bytes(4 * weights as u64));
    group.bench_function("f32", |bencher| bencher.iter(|| first_non_finite_f32(black_box(&wide))));
    group.throughput(Throughput::Bytes(2 * weights as u64));
    group.bench_function("f16", |bencher| bencher.iter(|| first_non_finite_f16(black_box(&narrow))));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(100))
        .measurement_time(std::time::Duration::from_millis(600))
        .sample_size(20);
    targets = dequantize
}
criterion_main!(benches);
