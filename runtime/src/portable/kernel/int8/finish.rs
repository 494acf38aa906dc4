//! From integer sums to fp16 results: scale, bias, round.

use std::ops::Range;

use half::f16;

use super::{GROUP, Rows, STRIP, Sums};
use crate::portable::arith::fixed::{self, Scaling};
use crate::portable::kernel::Isa;
use crate::portable::kernel::convert::{narrow, widen};
use crate::portable::kernel::isa::for_each_isa;

/// What a column's sums are multiplied with.
#[derive(Clone, Copy)]
struct Unit {
    /// Value of one step of the sum.
    unit: f64,
    /// The result for every row, whatever the sum, where the column is zero or not finite.
    instead: Option<f32>,
}

impl Unit {
    fn of(scaling: Scaling) -> Self {
        match scaling {
            Scaling::Exponent(exponent) => Self { unit: fixed::unit(exponent), instead: None },
            Scaling::Zero => Self { unit: 0.0, instead: Some(0.0) },
            Scaling::NonFinite => Self { unit: 0.0, instead: Some(f32::NAN) },
        }
    }
}

/// Writes the results of a strip of rows with one group's columns into the whole rows of `out`, each result to all the
/// `slots` of its column.
pub(super) fn finish(
    isa: Isa,
    rows: Rows<'_>,
    sums: &[Sums],
    scalings: &[Scaling],
    slots: &[Range<usize>],
    out: &mut [f16],
) {
    let mut units = [Unit::of(Scaling::Zero); GROUP];
    units.iter_mut().zip(scalings).for_each(|(unit, &scaling)| *unit = Unit::of(scaling));
    let mut scales = [0f32; STRIP];
    match rows.scales {
        [shared] => scales.fill(shared.to_f32()),
        each => widen(isa, each, &mut scales[..sums.len()]),
    }
    let mut values = [[0f32; GROUP]; STRIP];
    let values = &mut values[..sums.len()];
    scale(isa, sums, &scales, &units, values);
    for (column, unit) in units.iter().enumerate() {
        if let Some(instead) = unit.instead {
            for row in values.iter_mut() {
                row[column] = instead;
            }
        }
    }
    if let Some(bias) = rows.bias {
        let mut wide = [0f32; STRIP];
        widen(isa, bias, &mut wide[..sums.len()]);
        for (row, bias) in values.iter_mut().zip(wide) {
            for value in row {
                *value += bias;
            }
        }
    }
    let mut halves = [[f16::ZERO; GROUP]; STRIP];
    let halves = &mut halves[..sums.len()];
    narrow(isa, values.as_flattened(), halves.as_flattened_mut());
    match (out.len() / sums.len().max(1), slots) {
        // Every column in a slot of its own.
        (width, [first, .., last]) if last.end - first.start == GROUP && slots.len() == GROUP => {
            for (out, halves) in out.chunks_exact_mut(width).zip(halves.iter()) {
                out[first.start..last.end].copy_from_slice(halves);
            }
        }
        (1, _) => spread::<1>(halves, slots, out),
        (GROUP, _) => spread::<GROUP>(halves, slots, out),
        (width, _) => {
            for (out, halves) in out.chunks_exact_mut(width.max(1)).zip(halves.iter()) {
                for (slots, half) in slots.iter().zip(halves) {
                    out[slots.clone()].fill(*half);
                }
            }
        }
    }
}

/// Writes whole rows of `N`, each result to all the `slots` of its column. For the widths that most passes have.
fn spread<const N: usize>(halves: &[[f16; GROUP]], slots: &[Range<usize>], out: &mut [f16]) {
    let mut columns = [0; N];
    for (column, slots) in slots.iter().enumerate() {
        columns[slots.clone()].fill(column);
    }
    for (out, halves) in out.as_chunks_mut().0.iter_mut().zip(halves) {
        *out = columns.map(|column| halves[column]);
    }
}

for_each_isa! {
    fn scale(sums: &[Sums], scales: &[f32; STRIP], units: &[Unit; GROUP], values: &mut [[f32; GROUP]]) {
        for ((sums, scale), values) in sums.iter().zip(scales).zip(values) {
            let scale = f64::from(*scale);
            for column in 0..GROUP {
                values[column] = ((sums[column] as f64 * scale) * units[column].unit) as f32;
            }
        }
    }
}
