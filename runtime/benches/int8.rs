//! Products of int8 matrices with 1 to 32 columns, beside a plain read of the same weights, with every instruction set
//! that this machine has. The matrices are taken in turns, and together they are larger than any cache.
#![allow(missing_docs)] // what the macros below make

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::hint::black_box;
use std::time::Duration;

use anepipe_runtime::portable::Isa;
use anepipe_runtime::portable::kernel::int8::{Columns, Rows};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fixture::random::Random;
use half::f16;

/// Rows and columns of a layer's widest and longest matrices.
const SHAPES: [(usize, usize); 2] = [(16384, 3072), (3072, 8192)];

/// Bytes of all matrices of a shape: several times the largest cache.
const BYTES: usize = 192 << 20;

/// Shares the rows of `out` among `threads`.
fn share(threads: usize, rows: usize, out: &mut [f16], work: impl Fn(usize, &mut [f16]) + Sync) {
    let piece = rows.div_ceil(threads);
    let width = out.len() / rows;
    std::thread::scope(|scope| {
        let work = &work;
        let (own, others) = out.split_at_mut(piece * width);
        for (index, out) in others.chunks_mut(piece * width).enumerate() {
            scope.spawn(move || work((index + 1) * piece, out));
        }
        work(0, own);
    });
}

/// Reads every byte, in as many sums as it takes to wait for memory alone.
fn read(weights: &[i8]) -> u64 {
    let words: &[[u64; 16]] = bytemuck::pod_align_to(weights).1;
    let sums = words.iter().fold([0; 16], |mut sums, words| {
        sums.iter_mut().zip(words).for_each(|(sum, word)| *sum ^= word);
        sums
    });
    sums.into_iter().fold(0, |all, sum| all ^ sum)
}

fn product(criterion: &mut Criterion) {
    let mut random = Random(1);
    for (rows, length) in SHAPES {
        let matrices: Vec<Vec<i8>> = (0..BYTES.div_ceil(rows * length))
            .map(|_| {
                (0..rows * length / 8)
                    .flat_map(|_| random.bits().to_le_bytes().map(u8::cast_signed))
                    .collect()
            })
            .collect();
        let scales = random.halves(rows, |random| f16::from_f32(random.unit() * 0.01));
        for threads in [2, 1] {
            let mut group = criterion.benchmark_group(format!("int8/{rows}x{length}/{threads}"));
            group
                .sample_size(10)
                .warm_up_time(Duration::from_millis(100))
                .measurement_time(Duration::from_millis(600))
                .throughput(Throughput::Bytes((rows * length) as u64));
            let mut turns = matrices.iter().cycle();
            group.bench_function("read", |bencher| {
                let mut out = vec![f16::ZERO; rows];
                bencher.iter(|| {
                    let matrix = turns.next().map_or(&[][..], Vec::as_slice);
                    share(threads, rows, &mut out, |first, out| {
                        black_box(read(&matrix[first * length..(first + out.len()) * length]));
                    });
                });
            });
            for isa in Isa::available() {
                let mut columns = Columns::new(isa);
                for count in [1, 2, 4, 8, 32] {
                    let x = random.halves(length * count, |random| f16::from_f32(random.normal()));
                    let mut out = vec![f16::ZERO; rows * count];
                    group.bench_function(BenchmarkId::new(isa.name(), format!("T={count}")), |bencher| {
                        bencher.iter(|| {
                            let weights = turns.next().map_or(&[][..], Vec::as_slice);
                            let matrix = Rows { weights, scales: &scales, bias: None };
                            columns.load(&x, count);
                            share(threads, rows, &mut out, |first, out| {
                                let rows = first..first + out.len() / count;
                                columns.multiply(matrix.slice(rows, length), out);
                            });
                        });
                    });
                }
            }
            group.finish();
        }
    }
}

criterion_group!(benches, product);
criterion_main!(benches);
