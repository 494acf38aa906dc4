//! Weights, streamed by rows, times the columns of all tokens.
//!
//! A few rows at a time are dequantized and multiplied with every token, on all threads; so each weight is read once, whatever the
//! number of tokens, and a model far larger than memory can be run. Every sum is taken over the same runs of [`RUN`] inputs in the
//! same order, whatever the threads and the instructions, and is not fused, so that a report says the same everywhere.

use anepipe_gguf::{GgufError, Tensor};
use rayon::prelude::*;

use super::columns::{Columns, LANES};
use super::storage::Rounding;

/// Rows whose sums are kept in registers together.
const QUAD: usize = 4;
/// Rows that one task dequantizes.
const TASK: usize = 4 * QUAD;
/// Inputs that are summed in fp32 before their sum goes to the total.
const RUN: usize = 512;

/// `[rows, row_len] · [row_len, tokens]`, as `[rows, tokens]`, each row of weights rounded first. The tensor's bytes are let go again.
pub(super) fn product(
    weights: &Tensor<'_>,
    rounding: &Rounding,
    input: &Columns,
) -> Result<Columns, GgufError> {
    let panels = panels(input);
    let (rows, row_len) = (weights.rows() as usize, weights.row_len() as usize);
    let mut output = Columns::zeros(rows, input.tokens());
    let stride = output.stride();
    output.values_mut().par_chunks_mut((TASK * stride).max(1)).enumerate().try_for_each_init(
        || (Vec::new(), Vec::new()),
        |(plain, quads), (task, output)| {
            let (first, count) = (task * TASK, output.len() / stride);
            plain.clear();
            plain.resize(count * row_len, 0.0);
            weights.dequantize_rows_f32(first as u64..(first + count) as u64, plain)?;
            for (index, row) in plain.chunks_exact_mut(row_len).enumerate() {
                rounding.apply((first + index) as u64, row);
            }
            interleave(plain, row_len, quads);
            multiply(quads, row_len, &panels, output, stride);
            Ok(())
        },
    )?;
    weights.release();
    Ok(output)
}

/// The input cut into columns of [`LANES`] tokens: `[tokens / LANES, channels, LANES]`.
fn panels(input: &Columns) -> Vec<[f32; LANES]> {
    let across = input.stride() / LANES;
    let (chunks, _) = input.values().as_chunks::<LANES>();
    (0..across).flat_map(|panel| chunks.iter().skip(panel).step_by(across).copied()).collect()
}

/// Rows as `[rows / QUAD, row_len, QUAD]`, the last quad filled up with zeros.
fn interleave(plain: &[f32], row_len: usize, quads: &mut Vec<[f32; QUAD]>) {
    quads.clear();
    quads.resize(plain.len().div_ceil(row_len * QUAD) * row_len, [0.0; QUAD]);
    for (index, row) in plain.chunks_exact(row_len).enumerate() {
        let quad = &mut quads[index / QUAD * row_len..][..row_len];
        quad.iter_mut().zip(row).for_each(|(quad, weight)| quad[index % QUAD] = *weight);
    }
}

/// `quads` times `panels`, added to `output`: compiled once for any machine and once for AVX2, with the same result.
#[allow(unsafe_code)]
fn multiply(
    quads: &[[f32; QUAD]],
    row_len: usize,
    panels: &[[f32; LANES]],
    output: &mut [f32],
    stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(
            quads: &[[f32; QUAD]],
            row_len: usize,
            panels: &[[f32; LANES]],
            output: &mut [f32],
            stride: usize,
        ) {
            anywhere(quads, row_len, panels, output, stride);
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the function is safe but for the instructions that it needs, which were detected.
            return unsafe { avx2(quads, row_len, panels, output, stride) };
        }
    }
    anywhere(quads, row_len, panels, output, stride);
}

#[allow(clippy::inline_always)] // so that it is compiled for its caller's instructions
#[inline(always)]
fn anywhere(
    quads: &[[f32; QUAD]],
    row_len: usize,
    panels: &[[f32; LANES]],
    output: &mut [f32],
    stride: usize,
) {
    for start in (0..row_len).step_by(RUN) {
        let run = start..(start + RUN).min(row_len);
        for (index, panel) in panels.chunks_exact(row_len).enumerate() {
            for (quad, output) in quads.chunks_exact(row_len).zip(output.chunks_mut(QUAD * stride)) {
                let sums = tile(&quad[run.clone()], &panel[run.clone()]);
                for (row, sums) in output.chunks_exact_mut(stride).zip(sums) {
                    let lanes = &mut row[index * LANES..][..LANES];
                    lanes.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
                }
            }
        }
    }
}

/// One run of inputs: four rows, sixteen tokens.
#[allow(clippy::inline_always)] // as above
#[inline(always)]
fn tile(weights: &[[f32; QUAD]], inputs: &[[f32; LANES]]) -> [[f32; LANES]; QUAD] {
    let mut sums = [[0.0; LANES]; QUAD];
    for (weights, inputs) in weights.iter().zip(inputs) {
        for (sums, weight) in sums.iter_mut().zip(weights) {
            for (sum, input) in sums.iter_mut().zip(inputs) {
                *sum += weight * input;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use anepipe_gguf::Gguf;
    use anepipe_testkit::{GgufWriter, SplitMix64};

    use super::*;

    fn random(len: usize, seed: u64) -> Vec<f32> {
        let bytes = SplitMix64::new(seed).bytes(4 * len);
        bytes.as_chunks::<4>().0.iter().map(|&four| i32::from_le_bytes(four) as f32 / 2e9).collect()
    }

    #[test]
    fn products_are_those_of_a_plain_loop_for_any_shape() {
        for (rows, row_len, tokens) in [(1, 1, 1), (3, 5, 2), (16, 32, 16), (17, 513, 17), (70, 1200, 33)] {
            let (weights, activations) = (random(rows * row_len, 1), random(row_len * tokens, 2));
            let file = GgufWriter::new().f32("w", &[row_len as u64, rows as u64], &weights).to_bytes();
            let gguf = Gguf::from_bytes("product.gguf", file).unwrap();
            let mut input = Columns::zeros(row_len, tokens);
            for channel in 0..row_len {
                input.channel_mut(channel).copy_from_slice(&activations[channel * tokens..][..tokens]);
            }
            let output = product(&gguf.tensor("w").unwrap(), &Rounding::None, &input).unwrap();
            for token in 0..tokens {
                for (row, found) in output.column(token).enumerate() {
                    let terms = (0..row_len).map(|i| {
                        f64::from(weights[row * row_len + i]) * f64::from(activations[i * tokens + token])
                    });
                    let expected: f64 = terms.sum();
                    let error = (f64::from(found) - expected).abs();
                    assert!(error < 1e-6 * (row_len as f64).sqrt(), "{rows} {row_len} {tokens}: {error}");
                }
            }
        }
    }

    #[test]
    fn every_set_of_instructions_gives_the_same_bits() {
        let (row_len, stride) = (1100, 32);
        let quads: Vec<[f32; QUAD]> = random(2 * row_len * QUAD, 3).as_chunks().0.to_vec();
        let panels: Vec<[f32; LANES]> = random(2 * row_len * LANES, 4).as_chunks().0.to_vec();
        let (mut best, mut plain) = (vec![0.0; 7 * stride], vec![0.0; 7 * stride]);
        multiply(&quads, row_len, &panels, &mut best, stride);
        anywhere(&quads, row_len, &panels, &mut plain, stride);
        let bits = |all: &[f32]| all.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&best), bits(&plain));
        assert!(best.iter().all(|value| *value != 0.0));
    }
}
