//! int8 matrices times fp16 columns, by the definition in [`crate::portable::arith::fixed`].
//!
//! [`Columns`] holds the activations of one product, converted once to the integer digits an instruction set works
//! with; any number of threads then multiply disjoint ranges of rows. Weights are read where they lie, one linear
//! stream a thread, and a sweep serves up to [`GROUP`] columns.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod digits;
mod finish;
mod limbs;
#[cfg(target_arch = "aarch64")]
mod neon;

use half::f16;

use super::Isa;
use super::convert::widen;
use super::isa::{Level, for_each_isa};
use crate::portable::arith::fixed::{self, Scaling};
use crate::portable::arith::half::magnitude_bits;

/// Columns that share one sweep over the weights.
const GROUP: usize = 4;

/// Rows whose integer sums are finished together.
const STRIP: usize = 64;

/// Integer sums of one row with a group's columns; a group with fewer columns leaves the rest unused.
type Sums = [i64; GROUP];

/// Rows of an int8 matrix with what turns integer sums into results.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Row-major weights: a whole number of rows, each as long as the columns.
    pub weights: &'a [i8],
    /// One scale per row, or one for all.
    pub scales: &'a [f16],
    /// One value per row, added in fp32 before the last rounding.
    pub bias: Option<&'a [f16]>,
}

impl<'a> Rows<'a> {
    /// The rows of `range`, when each has `length` weights.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>, length: usize) -> Rows<'a> {
        Rows {
            weights: &self.weights[range.start * length..range.end * length],
            scales: if self.scales.len() == 1 { self.scales } else { &self.scales[range.clone()] },
            bias: self.bias.map(|bias| &bias[range]),
        }
    }
}

/// The columns of one product, as integers.
#[derive(Debug, Clone)]
pub struct Columns {
    isa: Isa,
    length: usize,
    scalings: Vec<Scaling>,
    /// All activations, widened.
    wide: Vec<f32>,
    /// The 30-bit integers of the column that is being converted.
    integers: Vec<i32>,
    limbs: limbs::Limbs,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    digits: digits::Digits,
    #[cfg(target_arch = "aarch64")]
    pairs: neon::Pairs,
}

impl Columns {
    /// No columns yet; they will be multiplied with `isa`.
    pub fn new(isa: Isa) -> Self {
        Self {
            isa,
            length: 0,
            scalings: Vec::new(),
            wide: Vec::new(),
            integers: Vec::new(),
            limbs: limbs::Limbs::default(),
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            digits: digits::Digits::default(),
            #[cfg(target_arch = "aarch64")]
            pairs: neon::Pairs::default(),
        }
    }

    /// Number of columns.
    pub fn count(&self) -> usize {
        self.scalings.len()
    }

    /// Elements of a column.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Takes `count` columns from `x`, in which the columns' elements alternate: `[length, count]`, last axis fastest.
    /// Allocates only when the columns are larger than any before.
    pub fn load(&mut self, x: &[f16], count: usize) {
        self.length = x.len().checked_div(count).unwrap_or(0);
        self.scalings.clear();
        self.wide.resize(x.len(), 0.0);
        widen(self.isa, x, &mut self.wide);
        self.integers.resize(self.length, 0);
        self.start(count);
        for column in 0..count {
            let largest = x.iter().skip(column).step_by(count).map(|&value| magnitude_bits(value)).max();
            let scaling = Scaling::of_largest(largest.unwrap_or(0));
            self.scalings.push(scaling);
            match scaling {
                Scaling::Exponent(exponent) => {
                    quantize(self.isa, exponent, &self.wide[column..], count, &mut self.integers);
                }
                Scaling::Zero | Scaling::NonFinite => self.integers.fill(0),
            }
            self.store(column);
        }
    }

    fn start(&mut self, count: usize) {
        match self.isa.level() {
            Level::Baseline => self.limbs.start(count, self.length),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => self.limbs.start(count, self.length),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni | Level::Avx512 => self.digits.start(count, self.length),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => self.digits.start(count, self.length),
            #[cfg(target_arch = "aarch64")]
            Level::NeonI8mm => {
                self.digits.start(count, self.length);
                self.pairs.start(count, self.length);
            }
        }
    }

    fn store(&mut self, column: usize) {
        match self.isa.level() {
            Level::Baseline => self.limbs.store(column, &self.integers),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => self.limbs.store(column, &self.integers),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni | Level::Avx512 => self.digits.store(self.isa, column, &self.integers),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => self.digits.store(self.isa, column, &self.integers),
            #[cfg(target_arch = "aarch64")]
            Level::NeonI8mm => {
                self.digits.store(self.isa, column, &self.integers);
                self.pairs.store(column, &self.digits);
            }
        }
    }

    /// Multiplies `rows` with every column into `out` `[rows, columns]`, last axis fastest.
    ///
    /// # Panics
    /// If `rows` and `out` disagree about the number of rows; the plan fixes both when a shard is loaded.
    pub fn multiply(&self, rows: Rows<'_>, out: &mut [f16]) {
        let count = self.count();
        if count == 0 || out.is_empty() {
            return;
        }
        let height = out.len() / count;
        assert_eq!(rows.weights.len(), height * self.length, "weights for {height} rows of {}", self.length);
        for first in (0..height).step_by(STRIP) {
            let range = first..(first + STRIP).min(height);
            let strip = rows.slice(range.clone(), self.length);
            let out = &mut out[range.start * count..range.end * count];
            for group in 0..count.div_ceil(GROUP) {
                let mut sums = [[0; GROUP]; STRIP];
                let sums = &mut sums[..range.len()];
                match self.isa.level() {
                    Level::Baseline => self.limbs.group(group).multiply(strip.weights, sums),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => avx2::multiply(self.limbs.group(group), strip.weights, sums),
                    #[cfg(target_arch = "x86_64")]
                    Level::AvxVnni => avx_vnni::multiply(self.digits.group(group), strip.weights, sums),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => avx512::multiply(self.digits.group(group), strip.weights, sums),
                    #[cfg(target_arch = "aarch64")]
                    Level::Neon => neon::multiply(self.digits.group(group), strip.weights, sums),
                    #[cfg(target_arch = "aarch64")]
                    Level::NeonI8mm => {
                        neon::multiply_i8mm((&self.digits, &self.pairs), group, strip.weights, sums);
                    }
                }
                let first = group * GROUP;
                let scalings = &self.scalings[first..(first + GROUP).min(count)];
                finish::finish(self.isa, strip, sums, scalings, &mut out[first..], count);
            }
        }
    }
}

for_each_isa! {
    /// The integers of every `count`th element of `x`.
    fn quantize(exponent: i32, x: &[f32], count: usize, integers: &mut [i32]) {
        for (integer, x) in integers.iter_mut().zip(x.iter().step_by(count)) {
            *integer = fixed::quantize(*x, exponent);
        }
    }
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod byte_tests;
#[cfg(test)]
mod tests;
