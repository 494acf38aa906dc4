//! Measures how fast each type is dequantized: `cargo run --release -p anepipe-gguf --example throughput`.
//!
//! One thread, rows of 3072 weights, a tensor of 12.6 M weights; the best of many passes over slices of 32 rows, which
//! is what the processor can do when the machine is busy with other things too. Figures are gigabytes of output a
//! second.
#![allow(clippy::print_stdout, clippy::doc_markdown)]

use std::{error::Error, time::Instant};

use anepipe_gguf::{Gguf, Tensor, TensorType, first_non_finite_f16, first_non_finite_f32};
use anepipe_testkit::{GgufWriter, SplitMix64};
use half::f16;

const COLUMNS: u64 = 3072;
const ROWS: u64 = 4096;
const SLICE: u64 = 32;

fn main() -> Result<(), Box<dyn Error>> {
    println!("type      to f32 GB/s  to f16 GB/s");
    for dtype in TensorType::known().filter(|dtype| dtype.can_dequantize()) {
        let (Some(len), Some(bytes)) = (dtype.block_len(), dtype.block_bytes()) else { continue };
        let content = SplitMix64::new(1).bytes((COLUMNS / len * bytes * ROWS) as usize);
        let file = GgufWriter::new().tensor("t", &[COLUMNS, ROWS], dtype.id(), content).to_bytes();
        let model = Gguf::from_bytes("throughput.gguf", file)?;
        let Some(tensor) = model.tensor("t") else { continue };
        let wide = best(4, |rows, out: &mut [f32]| tensor.dequantize_rows_f32(rows, out), &tensor)?;
        let narrow = best(2, |rows, out: &mut [f16]| tensor.dequantize_rows_f16(rows, out), &tensor)?;
        println!("{:8} {wide:12.1} {narrow:12.1}", dtype.to_string());
    }
    let wide = vec![1.0_f32; (COLUMNS * SLICE) as usize];
    let narrow = vec![f16::ONE; (COLUMNS * SLICE) as usize];
    println!(
        "finite?  {:12.1} {:12.1}",
        fastest(4 * wide.len(), || first_non_finite_f32(&wide)),
        fastest(2 * narrow.len(), || first_non_finite_f16(&narrow))
    );
    Ok(())
}

/// Gigabytes a second of the fastest slice.
fn best<T: Default + Clone, E>(
    size: usize,
    read: impl Fn(std::ops::Range<u64>, &mut [T]) -> Result<(), E>,
    tensor: &Tensor<'_>,
) -> Result<f64, E> {
    let mut out = vec![T::default(); (SLICE * COLUMNS) as usize];
    let mut best: f64 = 0.0;
    for _ in 0..5 {
        for start in (0..tensor.rows()).step_by(SLICE as usize) {
            let started = Instant::now();
            read(start..start + SLICE, &mut out)?;
            best = best.max((out.len() * size) as f64 / started.elapsed().as_secs_f64() / 1e9);
        }
    }
    Ok(best)
}

/// Gigabytes a second of the fastest of many runs over `bytes`.
fn fastest<T>(bytes: usize, run: impl Fn() -> T) -> f64 {
    let seconds = (0..500).map(|_| {
        let started = Instant::now();
        std::hint::black_box(run());
        started.elapsed().as_secs_f64()
    });
    bytes as f64 / seconds.fold(f64::INFINITY, f64::min) / 1e9
}
