//! From a graph to the steps of a plan.

use std::collections::HashMap;

use super::arena::{self, Life};
use super::fuse::fuse;
use super::item::{self, Attention, Elementwise, Item, Scatter};
use super::norm::{Input, Norm};
use super::step::{self, Addend, CacheHead, Head, Kernel, Step};
use super::view::{Place, View};
use super::{Needs, Plan};
use crate::portable::graph::{Constant, Convolution, Graph, Matrix, Op, Storage, ValueId, shape};
use crate::portable::kernel::copy::Copy;
use crate::portable::kernel::elementwise::{Expression, Reading};
use crate::portable::kernel::matmul::Matmul;
use crate::portable::kernel::reduce::Extents;

/// A plan in the making. Each result has a buffer of its own at first; [`arena`] makes them share.
struct Compiler<'a> {
    graph: &'a Graph,
    items: Vec<Item>,
    /// The last item that uses each value, directly or as part of another; `usize::MAX` for outputs.
    last_uses: HashMap<ValueId, usize>,
    /// The node whose result is being computed.
    node: Option<usize>,
    /// The name of the value that is being computed.
    name: String,
    views: HashMap<ValueId, View>,
    constants: Vec<Constant>,
    steps: Vec<Step>,
    /// For each step, the name of the value it computes.
    names: Vec<String>,
    /// Elements of each result.
    lengths: Vec<usize>,
    needs: Needs,
    scans: HashMap<(View, View), usize>,
    masks: HashMap<View, usize>,
}

/// The plan of `graph`; `None` if it is one for the interpreter: some results are fp32, or its use of states is none
/// that kernels know.
pub(super) fn compile(graph: &Graph, watched: bool) -> Option<Plan> {
    let items = fuse(graph, watched);
    let last_uses = last_uses(graph, &items);
    let mut compiler = Compiler {
        graph,
        items,
        last_uses,
        node: None,
        name: String::new(),
        views: HashMap::new(),
        constants: Vec::new(),
        steps: Vec::new(),
        names: Vec::new(),
        lengths: Vec::new(),
        needs: Needs::default(),
        scans: HashMap::new(),
        masks: HashMap::new(),
    };
    for (index, &id) in graph.inputs.iter().enumerate() {
        let view = View { place: Place::Input(index), start: 0, length: graph.count(id) };
        compiler.views.insert(id, view);
    }
    for item in 0..compiler.items.len() {
        compiler.item(item)?;
    }
    compiler.finish()
}

/// The last item that uses each value, directly or through a value that may be a view of it.
fn last_uses(graph: &Graph, items: &[Item]) -> HashMap<ValueId, usize> {
    let mut uses: HashMap<ValueId, usize> = graph.outputs.iter().map(|&id| (id, usize::MAX)).collect();
    for (index, item) in items.iter().enumerate().rev() {
        let through = match item {
            Item::Node(node) => match graph.nodes[*node].op {
                Op::Reshape(_) | Op::Slice { .. } => item.output(graph).and_then(|id| uses.get(&id).copied()),
                _ => None,
            },
            Item::Elementwise(_) | Item::Scatter(_) | Item::Attention(_) | Item::Norm(_) => None,
        };
        for operand in item.operands(graph) {
            let last = uses.entry(operand).or_insert(index);
            *last = (*last).max(through.unwrap_or(index));
        }
    }
    uses
}

impl Compiler<'_> {
    fn item(&mut self, index: usize) -> Option<()> {
        let value = self.items[index].value(self.graph);
        self.name = value.map(|value| self.graph.value(value).name.clone()).unwrap_or_default();
        match self.items[index].clone() {
            Item::Node(node) => {
                self.node = Some(node);
                self.node(index, node)
            }
            Item::Elementwise(elementwise) => {
                self.node = Some(elementwise.node);
                self.elementwise(elementwise)
            }
            Item::Scatter(scatter) => self.scatter(&scatter),
            Item::Norm(norm) => self.norm(&norm),
            Item::Attention(attention) => {
                self.node = Some(attention.node);
                self.attention(&attention)
            }
        }
    }

    fn node(&mut self, item: usize, node: usize) -> Option<()> {
        let node = &self.graph.nodes[node];
        let Some(output) = node.output else {
            if let Op::WriteState(state, data) = node.op {
                let data = self.view(data)?;
                self.step(Step::WriteState { state: state.0, data }, self.name.clone());
            }
            return Some(());
        };
        if self.graph.value(output).storage != Storage::Half {
            return None;
        }
        match &node.op {
            Op::Convolution(convolution) => self.convolution(convolution, output),
            Op::Softmax { x, axis } => {
                let (extents, x) = (self.extents(*x, &[*axis])?, self.view(*x)?);
                self.compute(output, Kernel::Softmax { x, extents });
                Some(())
            }
            Op::Reduce { kind, x, axes } => {
                let extents = self.extents(*x, axes);
                let (extents, x) = match extents {
                    Some(extents) => (extents, self.view(*x)?),
                    None => self.moved_to_the_end(*x, axes)?,
                };
                self.compute(output, Kernel::Reduce { kind: *kind, x, extents });
                Some(())
            }
            Op::LayerNorm { x, axes, gamma, beta, epsilon } => {
                let (extents, x) = (self.extents(*x, axes)?, self.view(*x)?);
                let mut weight = |weight: &Option<ValueId>| match weight {
                    Some(id) => Some(Some(self.view(*id)?)),
                    None => Some(None),
                };
                let (gamma, beta) = (weight(gamma)?, weight(beta)?);
                self.compute(output, Kernel::LayerNorm { x, extents, gamma, beta, epsilon: *epsilon });
                Some(())
            }
            Op::Reshape(x) => {
                let view = self.view(*x)?;
                self.views.insert(output, view);
                Some(())
            }
            Op::Transpose { x, perm } => {
                let (view, copy) = (self.view(*x)?, self.transpose(*x, perm));
                self.compute(output, Kernel::Copies(vec![(view, copy)]));
                Some(())
            }
            Op::Slice { x, begin, step, extents } => self.slice(*x, (begin, step, extents), output),
            Op::SliceUpdate { x, update, begin, step, extents } => {
                let (whole, part) = (self.view(*x)?, self.view(*update)?);
                let (start, strides) = window(self.graph.shape(*x), begin, step);
                let fill = Copy::new(&[whole.length], (0, &[1]), (0, &[1]));
                let replace = Copy::new(extents, (0, &shape::strides(extents)), (start, &strides));
                self.compute(output, Kernel::Copies(vec![(whole, fill), (part, replace)]));
                Some(())
            }
            Op::Concat { values, axis } => {
                let strides = shape::strides(self.graph.shape(output));
                let mut start = 0;
                let mut copies = Vec::new();
                for &value in values {
                    let own = self.graph.shape(value);
                    let copy = Copy::new(own, (0, &shape::strides(own)), (start, &strides));
                    start += own[*axis] * strides[*axis];
                    copies.push((self.view(value)?, copy));
                }
                self.compute(output, Kernel::Copies(copies));
                Some(())
            }
            Op::Matmul { x, y, transpose_x, transpose_y } => {
                self.matmul(*x, *y, (*transpose_x, *transpose_y), output)
            }
            Op::ReadState(state) => {
                let length = self.graph.count(output);
                let view = View { place: Place::State(state.0), start: 0, length };
                let last_use = self.last_uses.get(&output).copied().unwrap_or(item);
                let overwritten = self
                    .items
                    .iter()
                    .enumerate()
                    .skip(item + 1)
                    .any(|(index, other)| index <= last_use && other.written(self.graph) == Some(*state));
                if overwritten {
                    self.compute(
                        output,
                        Kernel::Copies(vec![(view, Copy::new(&[length], (0, &[1]), (0, &[1])))]),
                    );
                } else {
                    self.views.insert(output, view);
                }
                Some(())
            }
            // Elementwise operations are items of their own.
            Op::Binary(..) | Op::Unary(..) | Op::Cast(_) | Op::WriteState(..) => None,
        }
    }

    /// Where a value lies.
    fn view(&mut self, id: ValueId) -> Option<View> {
        if let Some(&view) = self.views.get(&id) {
            return Some(view);
        }
        let value = self.graph.value(id);
        let constant = value.constant.clone().filter(|_| value.storage == Storage::Half)?;
        let length = constant.as_half().len();
        if length != self.graph.count(id) {
            return None;
        }
        self.constants.push(constant);
        let view = View { place: Place::Constant(self.constants.len() - 1), start: 0, length };
        self.views.insert(id, view);
        Some(view)
    }

    /// A new result of `length` elements.
    fn buffer(&mut self, length: usize) -> View {
        self.lengths.push(length);
        View { place: Place::Buffer(self.lengths.len() - 1), start: 0, length }
    }

    /// A new buffer for `value`.
    fn result(&mut self, value: ValueId) -> usize {
        let view = self.buffer(self.graph.count(value));
        self.views.insert(value, view);
        self.lengths.len() - 1
    }

    /// Adds a step, which computes the value called `name`.
    fn step(&mut self, step: Step, name: String) {
        self.steps.push(step);
        self.names.push(name);
    }

    /// Computes `output` into a buffer of its own.
    fn compute(&mut self, output: ValueId, kernel: Kernel) {
        let view = self.buffer(self.graph.count(output));
        self.compute_into(view, kernel, self.node);
        self.views.insert(output, view);
    }

    fn compute_into(&mut self, view: View, kernel: Kernel, node: Option<usize>) {
        if let Place::Buffer(output) = view.place {
            self.needs.cover(&kernel);
            self.step(Step::Compute { kernel, output, length: view.length, node }, self.name.clone());
        }
    }

    fn transpose(&self, x: ValueId, perm: &[usize]) -> Copy {
        let (own, from) = (shape::strides(self.graph.shape(x)), self.graph.shape(x));
        let extents: Vec<usize> = perm.iter().map(|&axis| from[axis]).collect();
        let strides: Vec<usize> = perm.iter().map(|&axis| own[axis]).collect();
        Copy::new(&extents, (0, &strides), (0, &shape::strides(&extents)))
    }

    /// The extents around `axes`, if they are neighbours.
    fn extents(&self, x: ValueId, axes: &[usize]) -> Option<Extents> {
        let shape = self.graph.shape(x);
        let (first, end) = match axes {
            [] => (shape.len(), shape.len()),
            [first, ..] => (*first, first + axes.len()),
        };
        axes.iter().copied().eq(first..end).then(|| Extents {
            outer: shape[..first].iter().product(),
            k: shape[first..end].iter().product(),
            inner: shape[end..].iter().product(),
        })
    }

    /// A copy of `x` with `axes` moved behind the others.
    fn moved_to_the_end(&mut self, x: ValueId, axes: &[usize]) -> Option<(Extents, View)> {
        let from = self.graph.shape(x).to_vec();
        let kept = (0..from.len()).filter(|axis| !axes.contains(axis));
        let perm: Vec<usize> = kept.clone().chain(axes.iter().copied()).collect();
        let (source, copy) = (self.view(x)?, self.transpose(x, &perm));
        let view = self.buffer(source.length);
        self.compute_into(view, Kernel::Copies(vec![(source, copy)]), None);
        let extents = Extents {
            outer: kept.map(|axis| from[axis]).product(),
            k: axes.iter().map(|&axis| from[axis]).product(),
            inner: 1,
        };
        Some((extents, view))
    }

    fn slice(&mut self, x: ValueId, place: (&[usize], &[usize], &[usize]), output: ValueId) -> Option<()> {
        let (begin, step, extents) = place;
        let view = self.view(x)?;
        let (start, strides) = window(self.graph.shape(x), begin, step);
        let copy = Copy::new(extents, (start, &strides), (0, &shape::strides(extents)));
        match copy.contiguous() {
            Some(length) if self.graph.count(output) == length => {
                self.views.insert(output, View { start: view.start + copy.source(), length, ..view });
            }
            _ => self.compute(output, Kernel::Copies(vec![(view, copy)])),
        }
        Some(())
    }

    fn elementwise(&mut self, elementwise: Elementwise) -> Option<()> {
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

    fn norm(&mut self, norm: &Norm) -> Option<()> {
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

    fn convolution(&mut self, convolution: &Convolution, output: ValueId) -> Option<()> {
        let from = self.graph.shape(convolution.x);
        let positions = from[2..].iter().product();
        // More than one batch is more than one matrix product, and nothing that shards have.
        if from[0] != 1 {
            return None;
        }
        let x = self.view(convolution.x)?;
        let bias = convolution.bias.clone();
        let kernel = match convolution.weight.clone() {
            Matrix::Int8 { weights, scales } => Kernel::Int8Matrix { x, positions, weights, scales, bias },
            Matrix::Half(weights) => Kernel::HalfMatrix { x, positions, weights, bias },
        };
        self.compute(output, kernel);
        Some(())
    }

    fn matmul(&mut self, x: ValueId, y: ValueId, transpose: (bool, bool), output: ValueId) -> Option<()> {
        let to = self.graph.shape(output);
        let batch = &to[..to.len() - 2];
        let matrix = |id: ValueId, transpose: bool| {
            let own = self.graph.shape(id);
            let (outer, inner) = own.split_at(own.len() - 2);
            let mut strides = shape::broadcast_strides(outer, batch);
            for stride in &mut strides {
                *stride *= inner[0] * inner[1];
            }
            (strides, if transpose { (1, inner[1]) } else { (inner[1], 1) }, inner[usize::from(!transpose)])
        };
        let ((x_batch, x_strides, k), (y_batch, y_strides, _)) =
            (matrix(x, transpose.0), matrix(y, transpose.1));
        let own = shape::strides(batch);
        let starts = (0..batch.iter().product()).map(|index: usize| {
            let at = |strides: &[usize]| -> usize {
                let axes = own.iter().zip(batch).zip(strides);
                axes.map(|((&stride, &extent), &step)| index / stride % extent * step).sum()
            };
            (at(&x_batch), at(&y_batch))
        });
        let product = Matmul {
            m: to[to.len() - 2],
            k,
            n: to[to.len() - 1],
            x: x_strides,
            y: y_strides,
            batch: starts.collect(),
        };
        let (x, y) = (self.view(x)?, self.view(y)?);
        self.compute(output, Kernel::Matmul { product, x, y });
        Some(())
    }

    fn scatter(&mut self, scatter: &Scatter) -> Option<()> {
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

    fn attention(&mut self, attention: &Attention) -> Option<()> {
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

    /// Results share buffers from here on.
    fn finish(mut self) -> Option<Plan> {
        let outputs: Option<Vec<View>> = self.graph.outputs.iter().map(|&id| self.view(id)).collect();
        let mut outputs = outputs?;
        let mut lives: Vec<Life> =
            self.lengths.iter().map(|&length| Life { length, born: usize::MAX, dies: 0 }).collect();
        for (index, step) in self.steps.iter_mut().enumerate() {
            for output in step.outputs() {
                lives[*output].born = index;
            }
            for view in step.views() {
                if let Place::Buffer(buffer) = view.place {
                    lives[buffer].dies = index;
                }
            }
        }
        for view in &outputs {
            if let Place::Buffer(buffer) = view.place {
                lives[buffer].dies = usize::MAX;
            }
        }
        // A result that nothing uses still needs its memory while it is written.
        for life in &mut lives {
            life.dies = life.dies.max(life.born);
        }
        let layout = arena::assign(&lives);
        let place = |view: &mut View| {
            if let Place::Buffer(buffer) = &mut view.place {
                *buffer = layout.assigned[*buffer];
            }
        };
        for step in &mut self.steps {
            step.views().into_iter().for_each(place);
            step.outputs().into_iter().for_each(|output| *output = layout.assigned[*output]);
        }
        outputs.iter_mut().for_each(place);
        self.needs.buffers = layout.buffers;
        let Self { steps, names, constants, needs, .. } = self;
        Some(Plan { steps, names, constants, outputs, needs })
    }
}

/// Where a slice begins in a dense tensor of `shape`, and how far it moves along each axis.
fn window(shape: &[usize], begin: &[usize], step: &[usize]) -> (usize, Vec<usize>) {
    let strides = shape::strides(shape);
    let start = begin.iter().zip(&strides).map(|(&begin, &stride)| begin * stride).sum();
    (start, strides.iter().zip(step).map(|(&stride, &step)| stride * step).collect())
}
