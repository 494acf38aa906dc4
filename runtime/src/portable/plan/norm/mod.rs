//! Norms: finding them in a graph, with the addition before them, and running them.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use half::f16;

use super::fuse::Index;
use super::item::Item;
use super::step;
use super::view::Sources;
use crate::portable::arith::operator::{Binary, Unary};
use crate::portable::graph::{Op, Reduction, Storage, ValueId};
use crate::portable::kernel::{Isa, norm};

/// A norm of columns over their channels, and the addition before it or none.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    pub(super) constants: norm::Norm,
    pub(super) input: Input,
    /// One element per channel.
    pub(super) weight: ValueId,
    pub(super) output: ValueId,
}

/// What is normed: as many channels as there are weights, each of so many columns.
#[derive(Debug, Clone, Copy)]
pub(super) enum Input {
    /// A value that is computed before.
    Value(ValueId),
    /// A sum. Others may see it too, but only after the norm.
    Sum { x: ValueId, y: ValueId, sum: ValueId },
}

impl Norm {
    /// The values it reads.
    pub(super) fn operands(&self) -> Vec<ValueId> {
        match self.input {
            Input::Value(x) => vec![x, self.weight],
            Input::Sum { x, y, .. } => vec![x, y, self.weight],
        }
    }
}

/// Runs a norm into `out`, and the addition before it into `sum`, if there is one.
pub(super) fn run(
    norm: &step::Norm,
    sources: Sources<'_>,
    isa: Isa,
    (sum, out): (Option<&mut [f16]>, &mut [f16]),
    scratch: &mut norm::Scratch,
) {
    let (x, weight) = (sources.get(norm.x), sources.get(norm.weight));
    let out = &mut out[..norm.length];
    match (&norm.addend, sum) {
        (Some(addend), Some(sum)) => {
            let addition = (x, sources.get(addend.y), &mut sum[..norm.length]);
            norm.constants.add_and_run(isa, addition, weight, out, scratch);
        }
        _ => norm.constants.run(isa, x, weight, out, scratch),
    }
}

impl Index<'_> {
    /// A norm whose last operation is `node`, see [`norm`], and the nodes that it is made of besides.
    pub(super) fn norm(
        &self,
        node: usize,
        taken: &HashMap<usize, Option<Item>>,
    ) -> Option<(Norm, Vec<usize>)> {
        let &Op::Binary(Binary::Mul, x, y) = &self.graph.nodes[node].op else { return None };
        [(x, y), (y, x)].into_iter().find_map(|(unit, weight)| self.weighted(node, unit, weight, taken))
    }

    /// A norm that ends as `unit · weight`.
    fn weighted(
        &self,
        node: usize,
        unit: ValueId,
        weight: ValueId,
        taken: &HashMap<usize, Option<Item>>,
    ) -> Option<(Norm, Vec<usize>)> {
        let output = self.graph.nodes[node].output?;
        let (scaled, inverse) = self.beside(unit, Binary::Mul, |value| {
            matches!(self.op(value), Some(Op::Unary(Unary::Rsqrt { .. }, _)))
        })?;
        let &Op::Unary(Unary::Rsqrt { epsilon }, total) = self.op(inverse)? else { return None };
        let (added, mean) = self.beside(total, Binary::Add, |value| {
            matches!(self.op(value), Some(Op::Reduce { kind: Reduction::Mean, .. }))
        })?;
        let Op::Reduce { x: squares, axes, .. } = self.op(mean)? else { return None };
        let root = self.square(added)?;
        let (factor, root_epsilon) = self.with_number(root, Binary::Mul)?;
        let (x, _) = self.beside(scaled, Binary::Mul, |value| value == factor)?;
        let &Op::Binary(Binary::Div, peak, floored) = self.op(factor)? else { return None };
        let (largest, floor) = self.with_number(floored, Binary::Maximum)?;
        let Op::Reduce { kind: Reduction::Max, x: magnitudes, axes: same_axes } = self.op(largest)? else {
            return None;
        };
        let connected = self.square(*squares) == Some(scaled)
            && matches!(self.op(*magnitudes)?, Op::Unary(Unary::Abs, of) if *of == x)
            && axes == same_axes;

        let wide = [*magnitudes, scaled, *squares, unit];
        let narrow = [largest, floored, factor, root, mean, added, total, inverse];
        let columns = self.columns(x, axes, weight)?;
        let shape = self.graph.shape(x);
        let row: Vec<usize> =
            (0..shape.len()).map(|at| if axes.contains(&at) { 1 } else { shape[at] }).collect();
        let fits = connected
            && self.graph.value(x).storage == Storage::Half
            && wide.iter().chain([&output]).all(|&value| self.graph.shape(value) == shape)
            && narrow.iter().all(|&value| self.graph.shape(value) == row)
            && !wide.iter().chain(&narrow).any(|&value| value == weight || value == x);
        if !fits {
            return None;
        }
        let within = wide.iter().chain(&narrow);
        let parts: Vec<usize> =
            within.map(|value| self.producers.get(value).copied()).collect::<Option<_>>()?;
        let constants = norm::Norm { columns, peak: self.number(peak)?, floor, root_epsilon, epsilon };
        if parts.iter().any(|part| taken.contains_key(part)) || self.seen_elsewhere(node, &parts) {
            return None;
        }
        match self.sum(x, node, &parts).filter(|(add, _)| !taken.contains_key(add) && x != weight) {
            Some((add, input)) => {
                let parts = parts.into_iter().chain([add]).collect();
                Some((Norm { constants, input, weight, output }, parts))
            }
            None => Some((Norm { constants, input: Input::Value(x), weight, output }, parts)),
        }
    }

    /// The sum `x`, and the node that computes it, if nothing but `parts` sees it before `node` is done.
    fn sum(&self, x: ValueId, node: usize, parts: &[usize]) -> Option<(usize, Input)> {
        let &add = self.producers.get(&x)?;
        let Op::Binary(Binary::Add, a, b) = self.graph.nodes[add].op else { return None };
        let alike = [a, b].iter().all(|&term| self.graph.shape(term) == self.graph.shape(x));
        let early = (add + 1..node)
            .any(|other| !parts.contains(&other) && self.graph.nodes[other].op.operands().contains(&x));
        (alike && !early).then_some((add, Input::Sum { x: a, y: b, sum: x }))
    }

    /// Whether something else than `parts` and `node` uses a result of `parts`.
    fn seen_elsewhere(&self, node: usize, parts: &[usize]) -> bool {
        let mut within: HashMap<ValueId, usize> = HashMap::new();
        for &part in parts.iter().chain([&node]) {
            for operand in self.graph.nodes[part].op.operands() {
                *within.entry(operand).or_default() += 1;
            }
        }
        let mut results = parts.iter().filter_map(|&part| self.graph.nodes[part].output);
        results.any(|result| within.get(&result) != self.uses.get(&result))
    }

    /// Columns of `x`, if `axes` are its channels, there is but one batch of them, and `weight` has one element for each
    /// channel.
    fn columns(&self, x: ValueId, axes: &[usize], weight: ValueId) -> Option<usize> {
        let (shape, weights) = (self.graph.shape(x), self.graph.shape(weight));
        let (&first, end) = (axes.first()?, axes.last()? + 1);
        let one = |extents: &[usize]| extents.iter().all(|&extent| extent == 1);
        let fits = axes.iter().copied().eq(first..end)
            && weights.len() == shape.len()
            && weights[first..end] == shape[first..end]
            && one(&shape[..first])
            && one(&weights[..first])
            && one(&weights[end..])
            && !shape.contains(&0);
        let columns = shape[end..].iter().product();
        (fits && columns <= norm::MAX_COLUMNS).then_some(columns)
    }

    /// The operands of a binary operation, last the one that is `meant`.
    fn beside(
        &self,
        value: ValueId,
        operator: Binary,
        meant: impl Fn(ValueId) -> bool,
    ) -> Option<(ValueId, ValueId)> {
        let &Op::Binary(found, x, y) = self.op(value)? else { return None };
        let order = [(x, y), (y, x)].into_iter().find(|&(_, other)| meant(other))?;
        (found == operator).then_some(order)
    }

    /// The operand of a binary operation whose other operand is a number, and that number.
    fn with_number(&self, value: ValueId, operator: Binary) -> Option<(ValueId, f16)> {
        let &Op::Binary(found, x, y) = self.op(value)? else { return None };
        let order = [(x, y), (y, x)].into_iter().find_map(|(other, one)| Some((other, self.number(one)?)))?;
        (found == operator).then_some(order)
    }

    /// What `value` is the square of.
    fn square(&self, value: ValueId) -> Option<ValueId> {
        match *self.op(value)? {
            Op::Binary(Binary::Mul, x, y) if x == y => Some(x),
            Op::Unary(Unary::Square, x) => Some(x),
            _ => None,
        }
    }

    /// A constant of one fp16 element.
    fn number(&self, value: ValueId) -> Option<f16> {
        match *self.graph.value(value).constant.as_ref()?.as_half() {
            [number] => Some(number),
            _ => None,
        }
    }
}
