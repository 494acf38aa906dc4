//! Items that several operations came to.

use super::Compiler;
use crate::portable::graph::{Storage, ValueId};
use crate::portable::kernel::elementwise::{Expression, Reading};
use crate::portable::plan::item::{self, Attention, Elementwise, Scatter};
use crate::portable::plan::norm::{Input, Norm};
use crate::portable::plan::step::{self, Addend, CacheHead, Head, Kernel, Step};
use crate::portable::plan::view::{Place, View};

impl Compiler<'_> {
    pub(super) fn elementwise(&mut self, elementwise: Elementwise) -> Option<()> {
        let Elementwise { terms, operands, output, .. } = elementwise;
        if self.graph.value(output).storage != Storage::Half {
            return None;
        }
        let to = self.graph.shape(output);
        let readings = operands.iter().map(|&id| Reading::of(self.graph.shape(id), to)).collect();
        let expression = Expression::new(terms, readings)?;
        let operands = operands.into_iter().map(|id| self.view(id)).collect::<Option<_>>()?;
        self.compute(output, Kernel::Elementwise { expression, operands });
        Some(())
    }

    pub(super) fn norm(&mut self, norm: &Norm) -> Option<()> {
        let weight = self.view(norm.weight)?;
        let (x, addend) = match norm.input {
            Input::Value(x) => (self.view(x)?, None),
            Input::Sum { x, y, sum } => {
                let (x, y) = (self.view(x)?, self.view(y)?);
                (x, Some(Addend { y, sum: self.result(sum) }))
            }
        };
        let (constants, length, output) = (norm.constants, x.length, self.result(norm.output));
        self.needs.columns = self.needs.columns.max(constants.columns);
        let norm = step::Norm { constants, x, addend, weight, output, length };
        self.step(Step::Norm(norm), self.name.clone());
        Some(())
    }

    pub(super) fn scatter(&mut self, scatter: &Scatter) -> Option<()> {
        let (keep, write) = (self.view(scatter.keep)?, self.view(scatter.write)?);
        let new = self.view(scatter.new)?;
        let next = self.scans.len();
        let changes = *self.scans.entry((keep, write)).or_insert(next);
        if changes == next {
            self.needs.contexts.push(keep.length);
            let name = self.graph.value(scatter.write).name.clone();
            self.step(Step::ScanChanges { keep, write, slot: changes }, name);
        }
        let step = Step::Scatter { state: scatter.state.0, changes, keep, write, new };
        self.step(step, self.name.clone());
        Some(())
    }

    pub(super) fn attention(&mut self, attention: &Attention) -> Option<()> {
        let mask = self.view(attention.mask)?;
        let next = self.masks.len();
        let visibility = *self.masks.entry(mask).or_insert(next);
        if visibility == next {
            self.needs.masks.push((attention.slots, attention.context));
            let name = self.graph.value(attention.mask).name.clone();
            self.step(Step::ScanMask { mask, slot: visibility }, name);
        }
        let heads: Option<Vec<Head>> =
            attention.heads.iter().map(|head| self.head(attention, head)).collect();
        let heads = heads?;
        let length = heads.first()?.queries.length;
        let kernel = step::Attention {
            heads,
            mask,
            visibility,
            scale: attention.scale,
            width: attention.width,
            length,
        };
        self.compute(attention.output, Kernel::Attention(kernel));
        Some(())
    }

    fn head(&mut self, attention: &Attention, head: &item::Head) -> Option<Head> {
        let width = attention.width;
        let mut cached = |id: ValueId| match self.view(id)? {
            // Rows of a state are those of its last axis, so a head's first is a whole number.
            View { place: Place::State(state), start, .. } => {
                Some(CacheHead { state, first_row: start / width, rows: attention.context })
            }
            _ => None,
        };
        let (keys, values) = (cached(head.keys)?, cached(head.values)?);
        Some(Head { queries: self.view(head.queries)?, keys, values, scores: head.scores })
    }
}
