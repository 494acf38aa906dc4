//! From a graph to the steps of a plan.

mod finish;
mod fused;
mod movement;
mod node;

use std::collections::HashMap;

use super::Plan;
use super::fuse::fuse;
use super::item::Item;
use super::scratch::Needs;
use super::step::{Kernel, Step};
use super::view::{Place, View};
use crate::portable::graph::{Constant, Graph, Op, Storage, ValueId};

/// A plan in the making. Each result has a buffer of its own at first; [`finish`] makes them share.
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
}
