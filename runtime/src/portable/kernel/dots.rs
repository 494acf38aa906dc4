//! Dot products of one fp16 row with several fp32 columns, in lane order.
//!
//! Elements of columns stand for fp16 numbers, so products are exact and may be fused with their addition.
#![allow(unsafe_code, clippy::wildcard_imports)]

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use half::f16;

use super::Isa;
use super::isa::Level;
use crate::portable::arith::lanes::LANES;
#[cfg(not(target_arch = "aarch64"))]
use crate::portable::arith::lanes::fold;

/// Columns whose sums are kept in registers together.
pub const GROUP: usize = 4;

/// Columns of equal length, one after the other, each padded with zeros to whole lanes.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    elements: &'a [f32],
    stride: usize,
}

impl<'a> Columns<'a> {
    /// Columns that lie `stride` apart, a multiple of sixteen.
    ///
    /// # Panics
    /// If `elements` does not consist of whole columns of whole lanes.
    pub fn new(elements: &'a [f32], stride: usize) -> Self {
        assert!(stride.is_multiple_of(LANES) && elements.len() == stride * (elements.len() / stride.max(1)));
        Self { elements, stride }
    }

    /// Number of columns.
    pub fn count(&self) -> usize {
        self.elements.len() / self.stride.max(1)
    }

    fn column(&self, index: usize) -> &'a [[f32; LANES]] {
        self.elements[index * self.stride..(index + 1) * self.stride].as_chunks().0
    }
}

/// Calls `write(column, sum)` for every column. `row` is as long as a column without its padding.
///
/// # Panics
/// If `row` is longer than a column.
pub fn dots(isa: Isa, row: &[f16], columns: Columns<'_>, mut write: impl FnMut(usize, f32)) {
    assert!(row.len() <= columns.stride, "a row of {} elements, columns of {}", row.len(), columns.stride);
    for first in (0..columns.count()).step_by(GROUP) {
        let sums = match columns.count() - first {
            1 => group::<1>(isa, row, columns, first),
            2 => group::<2>(isa, row, columns, first),
            3 => group::<3>(isa, row, columns, first),
            _ => group::<GROUP>(isa, row, columns, first),
        };
        let columns = (columns.count() - first).min(GROUP);
        sums[..columns].iter().enumerate().for_each(|(index, &sum)| write(first + index, sum));
    }
}

fn group<const T: usize>(isa: Isa, row: &[f16], columns: Columns<'_>, first: usize) -> [f32; GROUP] {
    let columns: [&[[f32; LANES]]; T] = std::array::from_fn(|t| columns.column(first + t));
    match isa.level() {
        #[cfg(not(target_arch = "aarch64"))]
        Level::Baseline => baseline(row, columns),
        // SAFETY: NEON is a part of the target.
        #[cfg(target_arch = "aarch64")]
        Level::Baseline | Level::Neon | Level::NeonI8mm => unsafe { neon(row, columns) },
        // SAFETY: an `Isa` of this level exists only where the features were detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni => unsafe { avx2(row, columns) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(row, columns) },
    }
}

#[cfg(not(target_arch = "aarch64"))]
fn baseline<const T: usize>(row: &[f16], columns: [&[[f32; LANES]]; T]) -> [f32; GROUP] {
    let mut lanes = [[0f32; LANES]; T];
    for (index, elements) in row.chunks(LANES).enumerate() {
        let mut wide = [0f32; LANES];
        wide.iter_mut().zip(elements).for_each(|(wide, element)| *wide = element.to_f32());
        for (lanes, column) in lanes.iter_mut().zip(columns) {
            for lane in 0..LANES {
                lanes[lane] += wide[lane] * column[index][lane];
            }
        }
    }
    let mut sums = [0.0; GROUP];
    sums.iter_mut().zip(lanes).for_each(|(sum, lanes)| *sum = fold(lanes));
    sums
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<const T: usize>(row: &[f16], columns: [&[[f32; LANES]]; T]) -> [f32; GROUP] {
    let mut low = [_mm256_setzero_ps(); GROUP];
    let mut high = [_mm256_setzero_ps(); GROUP];
    let (whole, tail) = row.as_chunks::<LANES>();
    let mut last = [f16::ZERO; LANES];
    last[..tail.len()].copy_from_slice(tail);
    let columns = columns.map(|column| &column[..row.len().div_ceil(LANES)]);
    for (index, elements) in whole.iter().chain((!tail.is_empty()).then_some(&last)).enumerate() {
        let (halves, _) = elements.as_chunks::<8>();
        // SAFETY: eight fp16 are read from arrays of eight.
        let (w_low, w_high) = unsafe {
            (
                _mm256_cvtph_ps(_mm_loadu_si128(halves[0].as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(halves[1].as_ptr().cast())),
            )
        };
        for t in 0..T {
            let (x, _) = columns[t][index].as_chunks::<8>();
            // SAFETY: eight fp32 are read from arrays of eight.
            unsafe {
                low[t] = _mm256_fmadd_ps(w_low, _mm256_loadu_ps(x[0].as_ptr()), low[t]);
                high[t] = _mm256_fmadd_ps(w_high, _mm256_loadu_ps(x[1].as_ptr()), high[t]);
            }
        }
    }
    fold_eights(std::array::from_fn(|t| _mm256_add_ps(low[t], high[t])))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn avx512<const T: usize>(row: &[f16], columns: [&[[f32; LANES]]; T]) -> [f32; GROUP] {
    let mut sums = [_mm512_setzero_ps(); GROUP];
    let (whole, tail) = row.as_chunks::<LANES>();
    let columns = columns.map(|column| &column[..row.len().div_ceil(LANES)]);
    for (index, elements) in whole.iter().enumerate() {
        // SAFETY: sixteen fp16 are read from an array of sixteen.
        let w = unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(elements.as_ptr().cast())) };
        for t in 0..T {
            // SAFETY: sixteen fp32 are read from an array of sixteen.
            sums[t] = unsafe { _mm512_fmadd_ps(w, _mm512_loadu_ps(columns[t][index].as_ptr()), sums[t]) };
        }
    }
    if !tail.is_empty() {
        let mask = (1u16 << tail.len()) - 1;
        // SAFETY: masked-out elements are not read, and the slice has as many as the mask.
        let w = unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, tail.as_ptr().cast())) };
        for t in 0..T {
            // SAFETY: sixteen fp32 are read from an array of sixteen.
            sums[t] =
                unsafe { _mm512_fmadd_ps(w, _mm512_loadu_ps(columns[t][whole.len()].as_ptr()), sums[t]) };
        }
    }
    fold_eights(sums.map(|sum| _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps::<1>(sum))))
}

/// The last three rounds of folding, for four columns at once: lane j takes j + 4, j + 2, j + 1.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(super) fn fold_eights(eights: [__m256; GROUP]) -> [f32; GROUP] {
    let [a, b, c, d] =
        eights.map(|eight| _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight)));
    // a₀+a₂ b₀+b₂ a₁+a₃ b₁+b₃, and the same of c and d.
    let ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    let cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    let folded = _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
    let mut sums = [0.0; GROUP];
    // SAFETY: four fp32 are written to an array of four.
    unsafe { _mm_storeu_ps(sums.as_mut_ptr(), folded) };
    sums
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn neon<const T: usize>(row: &[f16], columns: [&[[f32; LANES]]; T]) -> [f32; GROUP] {
    let mut lanes = [[vdupq_n_f32(0.0); 4]; T];
    let (whole, tail) = row.as_chunks::<LANES>();
    let mut last = [f16::ZERO; LANES];
    last[..tail.len()].copy_from_slice(tail);
    let columns = columns.map(|column| &column[..row.len().div_ceil(LANES)]);
    for (index, elements) in whole.iter().chain((!tail.is_empty()).then_some(&last)).enumerate() {
        let (fours, _) = elements.as_chunks::<4>();
        for (quarter, four) in fours.iter().enumerate() {
            // SAFETY: four fp16 are read from an array of four.
            let w = vcvt_f32_f16(vreinterpret_f16_u16(unsafe { vld1_u16(four.as_ptr().cast()) }));
            for (lanes, column) in lanes.iter_mut().zip(columns) {
                let (x, _) = column[index].as_chunks::<4>();
                // SAFETY: four fp32 are read from an array of four.
                lanes[quarter] = vfmaq_f32(lanes[quarter], w, unsafe { vld1q_f32(x[quarter].as_ptr()) });
            }
        }
    }
    let mut sums = [0.0; GROUP];
    for (sum, [a, b, c, d]) in sums.iter_mut().zip(lanes) {
        let four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
        *sum = vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::portable::arith::lanes;

    proptest! {
        #[test]
        fn every_instruction_set_sums_in_lane_order(
            length in 1usize..100,
            count in 1usize..10,
            bits in prop::collection::vec(any::<u16>(), 1000),
            nasty in any::<bool>(),
        ) {
            let element = |index: usize| {
                let bits = bits[index % bits.len()];
                // Ordinary numbers show the order of additions; any bits show infinities, NaN and zeros.
                f16::from_bits(if nasty { bits } else { (bits & 0x8fff) | 0x3000 })
            };
            let row: Vec<f16> = (0..length).map(element).collect();
            let stride = length.next_multiple_of(LANES);
            let mut elements = vec![0f32; count * stride];
            for (column, elements) in elements.chunks_mut(stride).enumerate() {
                elements[..length].iter_mut().enumerate().for_each(|(k, x)| *x = element(k * 7 + column * 31 + 5).to_f32());
            }
            for isa in Isa::available() {
                let mut found = vec![0f32; count];
                dots(isa, &row, Columns::new(&elements, stride), |column, sum| found[column] = sum);
                for (column, found) in elements.chunks(stride).zip(found) {
                    let expected = lanes::sum(row.iter().zip(column).map(|(w, x)| w.to_f32() * x));
                    prop_assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan());
                }
            }
        }
    }
}
