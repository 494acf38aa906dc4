//! Finding what several operations amount to: cache updates in place, attention, norms (in [`super::norm`]), and elementwise
//! operations in one sweep.
//!
//! A pattern is taken only if nothing else sees its intermediate results, so that leaving them out changes nothing.

use std::collections::HashMap;

use half::f16;

use super::item::{Attention, Elementwise, Head, Item, Scatter};
use crate::portable::arith::operator::Binary;
use crate::portable::graph::{Graph, Op, Storage, ValueId};
use crate::portable::kernel::attention::MAX_WIDTH;
use crate::portable::kernel::elementwise::{DEPTH, Term};

/// Operations of one sweep: what a chain of scalings and a rotation come to, and no more than can be followed.
const MOST: usize = 8;

/// The graph's operations, fused where a pattern fits. Where they are `watched`, elementwise operations and norms stand by themselves.
pub(super) fn fuse(graph: &Graph, watched: bool) -> Vec<Item> {
    let index = Index::of(graph);
    let mut replaced: HashMap<usize, Option<Item>> = HashMap::new();
    for node in 0..graph.nodes.len() {
        if let Some((scatter, parts)) = index.scatter(node) {
            replaced.extend(parts.into_iter().map(|part| (part, None)));
            replaced.insert(node, Some(Item::Scatter(scatter)));
        }
    }
    for node in 0..graph.nodes.len() {
        if let Some((attention, parts)) = index.joined_attention(node) {
            replaced.extend(parts.into_iter().map(|part| (part, None)));
            replaced.insert(node, Some(Item::Attention(attention)));
        }
    }
    // Heads that no concatenation joins stand for themselves.
    for node in 0..graph.nodes.len() {
        if replaced.contains_key(&node) {
            continue;
        }
        if let Some((attention, parts)) = index.attention(node) {
            replaced.extend(parts.into_iter().map(|part| (part, None)));
            replaced.insert(node, Some(Item::Attention(attention)));
        }
    }
    for node in (0..graph.nodes.len()).filter(|_| !watched) {
        if let Some((norm, parts)) = index.norm(node, &replaced) {
            replaced.extend(parts.into_iter().map(|part| (part, None)));
            replaced.insert(node, Some(Item::Norm(norm)));
        }
    }
    // From the last on, so that an operation is found by the one that uses it.
    for node in (0..graph.nodes.len()).rev() {
        if replaced.contains_key(&node) {
            continue;
        }
        let most = if watched { 1 } else { MOST };
        if let Some((elementwise, parts)) = index.elementwise(node, most, &replaced) {
            replaced.extend(parts.into_iter().map(|part| (part, None)));
            replaced.insert(node, Some(Item::Elementwise(elementwise)));
        }
    }
    (0..graph.nodes.len())
        .filter_map(|node| replaced.remove(&node).unwrap_or(Some(Item::Node(node))))
        .collect()
}

/// Who computes and who uses each value.
pub(super) struct Index<'a> {
    pub(super) graph: &'a Graph,
    pub(super) producers: HashMap<ValueId, usize>,
    pub(super) uses: HashMap<ValueId, usize>,
}

impl<'a> Index<'a> {
    fn of(graph: &'a Graph) -> Self {
        let mut producers = HashMap::new();
        let mut uses = HashMap::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            producers.extend(node.output.map(|output| (output, index)));
            for operand in node.op.operands() {
                *uses.entry(operand).or_insert(0) += 1;
            }
        }
        for &output in &graph.outputs {
            *uses.entry(output).or_insert(0) += 1;
        }
        Self { graph, producers, uses }
    }

    /// The operation that computes `value`, if it is used once.
    fn private(&self, value: ValueId) -> Option<(usize, &'a Op)> {
        let &node = self.producers.get(&value)?;
        (self.uses.get(&value) == Some(&1)).then_some((node, &self.graph.nodes[node].op))
    }

    /// The two operands of a private binary operation, in both orders.
    fn operands(&self, value: ValueId, operator: Binary) -> Option<(usize, [(ValueId, ValueId); 2])> {
        match self.private(value)? {
            (node, &Op::Binary(found, x, y)) if found == operator => Some((node, [(x, y), (y, x)])),
            _ => None,
        }
    }

    /// `write_state(state, read_state(state) · keep + write × new)`, and the nodes it is made of.
    fn scatter(&self, node: usize) -> Option<(Scatter, Vec<usize>)> {
        let &Op::WriteState(state, data) = &self.graph.nodes[node].op else { return None };
        let &[one, heads, context, width] = self.graph.states[state.0].shape.as_slice() else { return None };
        let (sum, orders) = self.operands(data, Binary::Add)?;
        orders.into_iter().find_map(|(kept, placed)| {
            let (product, orders) = self.operands(kept, Binary::Mul)?;
            let (placing, &Op::Matmul { x: write, y: new, transpose_x: false, transpose_y: false }) =
                self.private(placed)?
            else {
                return None;
            };
            orders.into_iter().find_map(|(old, keep)| {
                let (read, &Op::ReadState(from)) = self.private(old)? else { return None };
                let untouched = !self.graph.nodes[read..node]
                    .iter()
                    .any(|other| matches!(other.op, Op::WriteState(written, _) if written == state));
                let slots = *self.graph.shape(write).last()?;
                let fits = one == 1
                    && from == state
                    && untouched
                    && self.graph.shape(keep) == [1, 1, context, 1]
                    && self.graph.shape(write) == [1, 1, context, slots]
                    && self.graph.shape(new) == [1, heads, slots, width]
                    && heads * context * slots * width > 0;
                fits.then(|| {
                    (Scatter { state, keep, write, new, sum: data }, vec![sum, product, placing, read])
                })
            })
        })
    }

    /// `softmax(scale · (q × kᵀ) + mask) × v` with all queries of one KV head, and the nodes it is made of.
    fn attention(&self, node: usize) -> Option<(Attention, Vec<usize>)> {
        let &Op::Matmul { x: weights, y: values, transpose_x: false, transpose_y: false } =
            &self.graph.nodes[node].op
        else {
            return None;
        };
        let output = self.graph.nodes[node].output?;
        let (softmax, &Op::Softmax { x: masked, axis: 3 }) = self.private(weights)? else { return None };
        let (add, orders) = self.operands(masked, Binary::Add)?;
        orders.into_iter().find_map(|(scores, mask)| {
            let (scale, multiplied, product) = self.scaled(scores);
            let (matmul, &Op::Matmul { x: queries, y: keys, transpose_x: false, transpose_y: true }) =
                self.private(product)?
            else {
                return None;
            };
            let &[1, share, slots, width] = self.graph.shape(queries) else { return None };
            let context = *self.graph.shape(keys).get(2)?;
            let cached = [1, 1, context, width];
            let fits = self.graph.shape(keys) == cached
                && self.graph.shape(values) == cached
                && self.graph.shape(mask) == [1, 1, slots, context]
                && (1..=MAX_WIDTH).contains(&width)
                && share * slots * context > 0
                && self.in_a_state(keys)
                && self.in_a_state(values);
            let head = Head { queries, keys, values, scores: product };
            let attention = Attention { heads: vec![head], mask, scale, slots, context, width, output, node };
            let parts = [Some(softmax), Some(add), multiplied, Some(matmul)];
            fits.then(|| (attention, parts.into_iter().flatten().collect()))
        })
    }

    /// An elementwise operation with those that only it uses, at most `most` in all, and the nodes of those.
    fn elementwise(
        &self,
        node: usize,
        most: usize,
        taken: &HashMap<usize, Option<Item>>,
    ) -> Option<(Elementwise, Vec<usize>)> {
        if !matches!(self.graph.nodes[node].op, Op::Binary(..) | Op::Unary(..)) {
            return None;
        }
        let output = self.graph.nodes[node].output?;
        let mut made = Elementwise { terms: Vec::new(), operands: Vec::new(), output, node };
        let mut parts = vec![node];
        self.terms(node, DEPTH, most, taken, (&mut made, &mut parts));
        parts.retain(|&part| part != node);
        Some((made, parts))
    }

    /// Adds what `node` does, in at most `depth` blocks.
    fn terms(
        &self,
        node: usize,
        depth: usize,
        most: usize,
        taken: &HashMap<usize, Option<Item>>,
        (made, parts): (&mut Elementwise, &mut Vec<usize>),
    ) {
        let operator = match self.graph.nodes[node].op {
            Op::Unary(operator, _) => Term::Unary(operator),
            Op::Binary(operator, ..) => Term::Binary(operator),
            _ => return,
        };
        for (waiting, operand) in self.graph.nodes[node].op.operands().into_iter().enumerate() {
            let depth = depth - waiting;
            let inner = self.private(operand).filter(|(inner, op)| {
                let needs = match op {
                    Op::Unary(..) => 1,
                    Op::Binary(..) => 2,
                    _ => usize::MAX,
                };
                parts.len() < most
                    && needs <= depth
                    && !taken.contains_key(inner)
                    && self.graph.shape(operand) == self.graph.shape(made.output)
                    && self.graph.value(operand).storage == Storage::Half
            });
            if let Some((inner, _)) = inner {
                parts.push(inner);
                self.terms(inner, depth, most, taken, (&mut *made, &mut *parts));
            } else {
                made.terms.push(Term::Operand);
                made.operands.push(operand);
            }
        }
        made.terms.push(operator);
    }

    /// Scores, and what they are multiplied with, if that is a positive finite constant.
    fn scaled(&self, scores: ValueId) -> (Option<f16>, Option<usize>, ValueId) {
        let found = self.operands(scores, Binary::Mul).and_then(|(node, orders)| {
            orders.into_iter().find_map(|(product, scale)| {
                let scale = self.graph.value(scale).constant.as_ref()?.half();
                let &[scale] = scale.as_ref() else { return None };
                (scale > f16::ZERO && scale.is_finite()).then_some((Some(scale), Some(node), product))
            })
        });
        found.unwrap_or((None, None, scores))
    }

    /// The operation that computes `value`.
    pub(super) fn op(&self, value: ValueId) -> Option<&'a Op> {
        self.producers.get(&value).map(|&node| &self.graph.nodes[node].op)
    }

    /// Whether `value` is one head `[1, 1, context, width]` of a state `[1, heads, context, width]`, just as it was read.
    fn in_a_state(&self, value: ValueId) -> bool {
        match self.op(value) {
            Some(Op::ReadState(_)) => true,
            Some(Op::Slice { x, step, extents, .. }) => {
                let whole = self.graph.shape(*x);
                matches!(self.op(*x), Some(Op::ReadState(_)))
                    && whole.len() == 4
                    && extents[2..] == whole[2..]
                    && step.iter().all(|&step| step == 1)
            }
            _ => false,
        }
    }

    /// A concatenation, along the heads, of heads that share mask and scale.
    fn joined_attention(&self, node: usize) -> Option<(Attention, Vec<usize>)> {
        let Op::Concat { values, axis: 1 } = &self.graph.nodes[node].op else { return None };
        let output = self.graph.nodes[node].output?;
        let mut joined: Option<(Attention, Vec<usize>)> = None;
        for &value in values {
            let (part, _) = self.private(value)?;
            let (attention, mut parts) = self.attention(part)?;
            parts.push(part);
            match &mut joined {
                None => joined = Some((Attention { output, node, ..attention }, parts)),
                Some((all, all_parts)) => {
                    let alike = all.mask == attention.mask
                        && all.scale == attention.scale
                        && self.graph.shape(all.heads[0].queries)
                            == self.graph.shape(attention.heads[0].queries)
                        && all.context == attention.context;
                    if !alike {
                        return None;
                    }
                    all.heads.extend(attention.heads);
                    all_parts.extend(parts);
                }
            }
        }
        joined
    }
}
