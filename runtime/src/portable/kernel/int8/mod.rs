//! int8 matrices times fp16 columns, by the definition in [`crate::portable::arith::fixed`].
//!
//! [`Columns`] holds the activations of one product, converted once to the integer digits an instruction set works
//! with; any number of threads then multiply disjoint ranges of rows. Weights are read where they lie, and one reading
//! serves up to [`SWEEP`] groups of [`GROUP`] columns. A column that repeats the one before it, as unused slots of a
//! pass do, is not multiplied again.

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

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Isa;
use super::convert::{to_integers, widen};
use super::isa::{Level, for_each_isa};
use crate::portable::arith::fixed::{self, Scaling};
use crate::portable::arith::half::magnitude_bits;

/// Columns that are multiplied together.
const GROUP: usize = 4;

/// Groups that are multiplied with a strip of rows while caches hold it.
const SWEEP: usize = 4;

/// Rows whose integer sums are finished together.
const STRIP: usize = 32;

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
    pub fn slice(&self, range: Range<usize>, length: usize) -> Rows<'a> {
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
    count: usize,
    length: usize,
    /// All activations, column after column.
    halves: Vec<f16>,
    /// Per distinct column, those that are equal to it.
    slots: Vec<Range<usize>>,
    /// Per distinct column.
    scalings: Vec<Scaling>,
    /// The column that is being converted, widened.
    wide: Vec<f32>,
    /// Its 30-bit integers.
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
            count: 0,
            length: 0,
            halves: Vec::new(),
            slots: Vec::new(),
            scalings: Vec::new(),
            wide: Vec::new(),
            integers: Vec::new(),
            limbs: limbs::Limbs::default(),
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            digits: digits::Digits::in_groups_of(together(isa)),
            #[cfg(target_arch = "aarch64")]
            pairs: neon::Pairs::default(),
        }
    }

    /// Number of columns.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Elements of a column.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Takes `count` columns from `x`, in which the columns' elements alternate: `[length, count]`, last axis fastest.
    /// Allocates only when the columns are larger than any before.
    pub fn load(&mut self, x: &[f16], count: usize) {
        (self.count, self.length) = (count, x.len().checked_div(count).unwrap_or(0));
        self.halves.resize(x.len(), f16::ZERO);
        separate(x, count, &mut self.halves);
        self.find_distinct();
        self.wide.resize(self.length, 0.0);
        self.integers.resize(self.length, 0);
        self.start(self.slots.len());
        self.scalings.clear();
        self.scalings.reserve(count);
        for column in 0..self.slots.len() {
            let first = self.slots[column].start * self.length;
            let halves = &self.halves[first..first + self.length];
            let mut largest = 0;
            largest_magnitude(self.isa, halves, &mut largest);
            let scaling = Scaling::of_largest(largest);
            self.scalings.push(scaling);
            match scaling {
                Scaling::Exponent(exponent) => {
                    widen(self.isa, halves, &mut self.wide);
                    to_integers(self.isa, &self.wide, fixed::factor(exponent), &mut self.integers);
                }
                Scaling::Zero | Scaling::NonFinite => self.integers.fill(0),
            }
            self.store(column);
        }
    }

    /// Finds the columns that do not repeat the one before them, and makes room for as many as there may be another
    /// time.
    fn find_distinct(&mut self) {
        self.slots.clear();
        self.slots.reserve(self.count);
        let column = |index: usize| &self.halves[index * self.length..(index + 1) * self.length];
        let bits = |index: usize| column(index).reinterpret_cast();
        for index in 0..self.count {
            match self.slots.last_mut() {
                Some(slots) if bits(index) == bits(slots.start) => slots.end += 1,
                _ => self.slots.push(index..index + 1),
            }
        }
        if self.slots.len() < self.count {
            self.start(self.count);
        }
    }

    fn start(&mut self, count: usize) {
        match self.isa.level() {
            Level::Baseline => self.limbs.start(count, self.length),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => self.limbs.start(count, self.length),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => self.digits.start(count, self.length),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => self.digits.start(avx512::padded(count), self.length),
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
            Level::Baseline => self.limbs.store(self.isa, column, &self.integers),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => self.limbs.store(self.isa, column, &self.integers),
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
            // Few columns should not pay for clearing the sums of many.
            match self.slots.len() {
                ..=GROUP => self.strip::<1>(strip, range.len(), out),
                _ => self.strip::<SWEEP>(strip, range.len(), out),
            }
        }
    }

    /// Multiplies a strip of `height` rows with every column, `S` groups at a time.
    fn strip<const S: usize>(&self, rows: Rows<'_>, height: usize, out: &mut [f16]) {
        let groups = self.slots.len().div_ceil(GROUP);
        for first in (0..groups).step_by(S) {
            let mut sums = [[[0; GROUP]; STRIP]; S];
            let sums = &mut sums[..S.min(groups - first)];
            self.sums(first, rows.weights, sums);
            for (group, sums) in (first..).zip(sums) {
                let columns = group * GROUP..((group + 1) * GROUP).min(self.slots.len());
                let (scalings, slots) = (&self.scalings[columns.clone()], &self.slots[columns]);
                finish::finish(self.isa, rows, &sums[..height], scalings, slots, out);
            }
        }
    }

    /// The sums of a strip of `weights` with as many groups of columns as `sums` has, from group `first` on.
    fn sums(&self, first: usize, weights: &[i8], sums: &mut [[Sums; STRIP]]) {
        let rows = (weights.len() / self.length.max(1)).min(STRIP);
        let groups = (first..).zip(sums.iter_mut().map(|sums| &mut sums[..rows]));
        match self.isa.level() {
            Level::Baseline => {
                groups.for_each(|(group, sums)| self.limbs.group(group).multiply(weights, sums));
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::multiply(&self.limbs, first, weights, sums),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => {
                groups.for_each(|(group, sums)| avx_vnni::multiply(self.digits.group(group), weights, sums));
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::multiply(&self.digits, first, weights, sums),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => {
                groups.for_each(|(group, sums)| neon::multiply(self.digits.group(group), weights, sums));
            }
            #[cfg(target_arch = "aarch64")]
            Level::NeonI8mm => groups.for_each(|(group, sums)| {
                neon::multiply_i8mm((&self.digits, &self.pairs), group, weights, sums);
            }),
        }
    }
}

/// Columns whose digits stand together.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn together(isa: Isa) -> usize {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => avx512::PAIR,
        _ => GROUP,
    }
}

/// Elements of each column that are separated from the others together.
const BLOCK: usize = 64;

/// Writes the columns of `x` `[length, count]`, last axis fastest, one after the other.
fn separate(x: &[f16], count: usize, columns: &mut [f16]) {
    if count <= 1 {
        columns.copy_from_slice(x);
        return;
    }
    let length = x.len() / count;
    for (index, x) in x.chunks(BLOCK * count).enumerate() {
        for (column, columns) in columns.chunks_exact_mut(length.max(1)).enumerate() {
            let elements = columns[index * BLOCK..].iter_mut().zip(x[column..].iter().step_by(count));
            elements.for_each(|(element, x)| *element = *x);
        }
    }
}

for_each_isa! {
    fn largest_magnitude(x: &[f16], largest: &mut u16) {
        *largest = x.iter().map(|&x| magnitude_bits(x)).fold(0, u16::max);
    }
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod byte_tests;
#[cfg(test)]
mod tests;
