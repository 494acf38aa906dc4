//! fp16 matrices times fp16 columns, in fp32 with sums in lane order.

use half::f16;

use super::Isa;
use super::convert::widen;
use super::dots;
use crate::portable::arith::half::round;
use crate::portable::arith::lanes::LANES;

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
        if self.count == 0 || self.length == 0 {
            out.fill(f16::ZERO);
            return;
        }
        let columns = dots::Columns::new(&self.elements, self.stride());
        let rows = weights.chunks_exact(self.length).zip(out.chunks_exact_mut(self.count));
        for (row, (weights, out)) in rows.enumerate() {
            let bias = bias.map(|bias| bias[row].to_f32());
            dots::dots(self.isa, weights, columns, |column, sum| {
                out[column] = round(bias.map_or(sum, |bias| sum + bias));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portable::arith::lanes;
    use crate::portable::fixture::random::Random;

    #[test]
    fn rows_are_multiplied_and_biased() {
        let mut random = Random(4);
        let (rows, length, count) = (5, 37, 6);
        let mut normal = |count: usize| random.halves(count, |random| f16::from_f32(random.normal()));
        let (weights, x, bias) = (normal(rows * length), normal(length * count), normal(rows));
        for isa in Isa::available() {
            let mut columns = Columns::new(isa);
            columns.load(&x, count);
            let mut out = vec![f16::ZERO; rows * count];
            columns.multiply(&weights, Some(&bias), &mut out);
            for (index, found) in out.into_iter().enumerate() {
                let (row, column) = (index / count, index % count);
                let terms =
                    (0..length).map(|k| weights[row * length + k].to_f32() * x[k * count + column].to_f32());
                assert_eq!(found, round(lanes::sum(terms) + bias[row].to_f32()), "{isa:?}");
            }
        }
    }
}
