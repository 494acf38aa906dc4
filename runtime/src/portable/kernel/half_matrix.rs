//! fp16 matrices times fp16 columns, in fp32 with sums in lane order.

use half::f16;

use super::Isa;
use super::convert::widen;
use super::isa::for_each_isa;
use crate::portable::arith::half::round;
use crate::portable::arith::lanes::{LANES, fold};

/// Columns that share one sweep over the weights.
const GROUP: usize = 4;

/// Elements of a row that are widened together.
const PART: usize = 512;

/// The columns of one product, widened, each in one piece and padded with zeros to whole lanes.
#[derive(Debug, Clone)]
pub struct Columns {
    isa: Isa,
    count: usize,
    length: usize,
    elements: Vec<f32>,
    /// All activations, widened.
    wide: Vec<f32>,
}

impl Columns {
    /// No columns yet; they will be multiplied with `isa`.
    pub fn new(isa: Isa) -> Self {
        Self { isa, count: 0, length: 0, elements: Vec::new(), wide: Vec::new() }
    }

    /// Takes `count` columns from `x`, in which the columns' elements alternate: `[length, count]`, last axis fastest.
    pub fn load(&mut self, x: &[f16], count: usize) {
        self.count = count;
        self.length = x.len().checked_div(count).unwrap_or(0);
        let stride = self.stride();
        self.elements.clear();
        self.elements.resize(count * stride, 0.0);
        self.wide.resize(x.len(), 0.0);
        widen(self.isa, x, &mut self.wide);
        for (index, column) in self.elements.chunks_exact_mut(stride.max(1)).enumerate() {
            let elements = self.wide.iter().skip(index).step_by(count);
            column.iter_mut().zip(elements).for_each(|(out, x)| *out = *x);
        }
    }

    /// Elements of a column.
    pub fn length(&self) -> usize {
        self.length
    }

    fn stride(&self) -> usize {
        self.length.next_multiple_of(LANES)
    }

    /// Multiplies the rows of `weights` (and adds `bias`) into `out` `[rows, columns]`, last axis fastest.
    pub fn multiply(&self, weights: &[f16], bias: Option<&[f16]>, out: &mut [f16]) {
        let mut lanes = [[0f32; LANES]; GROUP];
        for (row, out) in out.chunks_exact_mut(self.count.max(1)).enumerate() {
            let weights = &weights[row * self.length..(row + 1) * self.length];
            for (group, out) in out.chunks_mut(GROUP).enumerate() {
                let columns = &self.elements[group * GROUP * self.stride()..];
                let lanes = &mut lanes[..out.len()];
                self.dots(weights, columns, lanes);
                for (out, &lanes) in out.iter_mut().zip(lanes.iter()) {
                    let sum = fold(lanes);
                    *out = round(bias.map_or(sum, |bias| sum + bias[row].to_f32()));
                }
            }
        }
    }

    /// The lanes of one row with a group of columns.
    fn dots(&self, weights: &[f16], columns: &[f32], lanes: &mut [[f32; LANES]]) {
        lanes.fill([0.0; LANES]);
        let mut wide = [0f32; PART];
        for (part, weights) in weights.chunks(PART).enumerate() {
            let length = weights.len().next_multiple_of(LANES);
            wide[weights.len()..length].fill(0.0);
            widen(self.isa, weights, &mut wide[..weights.len()]);
            accumulate(self.isa, &wide[..length], &columns[part * PART..], self.stride(), lanes);
        }
    }
}

for_each_isa! {
    /// Adds the products of a part of a row with the same part of columns that lie `stride` apart.
    fn accumulate(weights: &[f32], columns: &[f32], stride: usize, sums: &mut [[f32; LANES]]) {
        let (weights, _) = weights.as_chunks::<LANES>();
        for (column, sums) in sums.iter_mut().enumerate() {
            let (x, _) = columns[column * stride..].as_chunks::<LANES>();
            let mut lanes = *sums;
            for (w, x) in weights.iter().zip(x) {
                for lane in 0..LANES {
                    lanes[lane] += w[lane] * x[lane];
                }
            }
            *sums = lanes;
        }
    }
}
