//! What storing the weights cost, the worst tensors first.

use anepipe_pipeline::stages::quantize::TensorError;
use maud::{Markup, html};

use super::Evidence;
use super::figure::{cosine, count, counted, short};
use super::section::{details, table};

/// Tensors that are shown without being asked for.
const SHOWN: usize = 10;

/// A tensor, and the part of the model it belongs to.
type Row<'a> = (&'a str, &'a TensorError);

pub(super) fn section(evidence: &Evidence) -> Markup {
    let mut rows: Vec<Row<'_>> = evidence
        .quantized
        .iter()
        .flat_map(|quantized| quantized.report.tensors.iter().map(|tensor| (quantized.of.as_str(), tensor)))
        .collect();
    rows.sort_by(|(_, a), (_, b)| b.rms_relative.total_cmp(&a.rms_relative));
    let (worst, others) = rows.split_at(rows.len().min(SHOWN));
    html! {
        p { "How far each tensor is, as stored, from what the model file says. The worst come first." }
        @if rows.is_empty() {
            p { "The bundle has no report of it." }
        } @else {
            (tensors(worst))
        }
        @if !others.is_empty() {
            (details(&format!("The other {}", counted(others.len(), "tensor")), &tensors(others)))
        }
    }
}

fn tensors(rows: &[Row<'_>]) -> Markup {
    table(&html! {
        thead {
            tr {
                th { "Of" } th { "Tensor" } th.figure { "Shape" } th.figure { "Relative RMS error" }
                th.figure { "Largest error" } th.figure { "Cosine" }
            }
        }
        tbody {
            @for (of, tensor) in rows {
                tr {
                    td { (of) }
                    th scope="row" { (tensor.tensor) }
                    td.figure { (shape(&tensor.shape)) }
                    td.figure { (short(Some(tensor.rms_relative))) }
                    td.figure { (short(Some(tensor.max_abs))) }
                    td.figure { (cosine(Some(tensor.cosine))) }
                }
            }
        }
    })
}

fn shape(extents: &[usize]) -> String {
    let extents: Vec<String> = extents.iter().map(|&extent| count(extent as u64)).collect();
    extents.join(" × ")
}
