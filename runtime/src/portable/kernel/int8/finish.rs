//! From integer sums to fp16 results: scale, bias, round.

use half::f16;

use super::{GROUP, Rows, STRIP, Sums};
use crate::portable::arith::fixed::{self, Scaling};
use crate::portable::kernel::Isa;
use crate::portable::kernel::convert::narrow;
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

/// Writes the results of a strip of rows with one group's columns. `out` starts at the group's first column of the
/// strip's first row; rows lie `stride` apart.
pub(super) fn finish(
    isa: Isa,
    rows: Rows<'_>,
    sums: &[Sums],
    scalings: &[Scaling],
    out: &mut [f16],
    stride: usize,
) {
    let mut units = [Unit::of(Scaling::Zero); GROUP];
    units.iter_mut().zip(scalings).for_each(|(unit, &scaling)| *unit = Unit::of(scaling));
    let mut values = [[0f32; GROUP]; STRIP];
    let values = &mut values[..sums.len()];
    scale(isa, sums, rows.scales, &units, values);
    for (column, unit) in units.iter().enumerate() {
        if let Some(instead) = unit.instead {
            for row in values.iter_mut() {
                row[column] = instead;
            }
        }
    }
    if let Some(bias) = rows.bias {
        for (row, bias) in values.iter_mut().zip(bias) {
            for value in row.iter_mut() {
                *value += bias.to_f32();
            }
        }
    }
    let mut halves = [[f16::ZERO; GROUP]; STRIP];
    let halves = &mut halves[..sums.len()];
    narrow(isa, values.as_flattened(), halves.as_flattened_mut());
    if stride == GROUP {
        out[..sums.len() * GROUP].copy_from_slice(halves.as_flattened());
    } else {
        for (out, halves) in out.chunks_mut(stride).zip(halves.iter()) {
            out[..scalings.len()].copy_from_slice(&halves[..scalings.len()]);
        }
    }
}

for_each_isa! {
    fn scale(sums: &[Sums], scales: &[f16], units: &[Unit; GROUP], values: &mut [[f32; GROUP]]) {
        let shared = if let [shared] = scales { Some(shared.to_f64()) } else { None };
        for (row, (sums, values)) in sums.iter().zip(values).enumerate() {
            let scale = shared.unwrap_or_else(|| scales[row].to_f64());
            for column in 0..GROUP {
                values[column] = ((sums[column] as f64 * scale) * units[column].unit) as f32;
            }
        }
    }
}
