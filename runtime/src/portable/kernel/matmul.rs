//! General fp16 matrix products, sums in lane order. For whatever is neither a convolution nor attention.

use half::f16;

use super::Isa;
use super::convert::narrow;
use super::isa::for_each_isa;
use crate::portable::arith::lanes::LANES;

/// One product: extents and strides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matmul {
    /// Rows of the result.
    pub m: usize,
    /// Length of the sums.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// Strides of the left matrix along its rows and along k.
    pub x: (usize, usize),
    /// Strides of the right matrix along k and along its columns.
    pub y: (usize, usize),
    /// Where the two matrices of each product begin.
    pub batch: Vec<(usize, usize)>,
}

impl Matmul {
    /// fp32 elements of working memory it needs.
    pub fn scratch(&self) -> usize {
        (LANES + 1) * self.n
    }

    /// Writes the products into `out` `[batch, m, n]`.
    pub fn run(&self, isa: Isa, x: &[f16], y: &[f16], out: &mut [f16], scratch: &mut [f32]) {
        if self.m * self.n == 0 {
            return;
        }
        let (lanes, rest) = scratch.split_at_mut(LANES * self.n);
        let row = &mut rest[..self.n];
        for (&(x_start, y_start), out) in self.batch.iter().zip(out.chunks_exact_mut(self.m * self.n)) {
            for (m, out) in out.chunks_exact_mut(self.n).enumerate() {
                lanes.fill(0.0);
                for k in 0..self.k {
                    let left = x[x_start + m * self.x.0 + k * self.x.1].to_f32();
                    let start = y_start + k * self.y.0;
                    for (n, value) in row.iter_mut().enumerate() {
                        *value = y[start + n * self.y.1].to_f32();
                    }
                    let lane = k % LANES * self.n;
                    accumulate(isa, left, row, &mut lanes[lane..lane + self.n]);
                }
                for half in [8, 4, 2, 1] {
                    let (low, high) = lanes[..2 * half * self.n].split_at_mut(half * self.n);
                    low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
                }
                narrow(isa, &lanes[..self.n], out);
            }
        }
    }
}

for_each_isa! {
    fn accumulate(left: f32, row: &[f32], lanes: &mut [f32]) {
        lanes.iter_mut().zip(row).for_each(|(lane, right)| *lane += left * right);
    }
}
