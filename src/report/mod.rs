//! A bundle as one page for people: what it is, what each gate says of it, and every figure behind that.
//!
//! [`Evidence`] reads the bundle's reports as typed values and refuses what contradicts itself; [`page()`] turns them into HTML that
//! needs no script and loads nothing; [`Destination`] writes it whole. A page says nothing that is not in the bundle, neither the
//! time nor the folder, so equal bundles have equal pages.
//!
//! Whatever comes from a file goes through `maud`, which escapes it. A prediction is marked as one wherever it is spoken of:
//! [`mark`] is the only place that words a verdict.

mod contents;
mod destination;
mod error;
mod evidence;
mod exact;
mod figure;
mod golden;
mod mark;
mod overview;
mod page;
mod parity;
mod quantization;
mod residency;
mod rules;
mod section;
#[cfg(test)]
mod tests;

pub(crate) use destination::Destination;
pub(crate) use error::ReportError;
pub(crate) use evidence::Evidence;
pub(crate) use page::page;
