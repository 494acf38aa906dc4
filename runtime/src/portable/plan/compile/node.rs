//! Operations that are steps of their own.

use super::Compiler;
use crate::portable::graph::{Convolution, Matrix, Op, Storage, ValueId, shape};
use crate::portable::kernel::matmul::Matmul;
use crate::portable::kernel::reduce::Extents;
use crate::portable::plan::step::{Kernel, Step};

impl Compiler<'_> {
    pub(super) fn node(&mut self, item: usize, node: usize) -> Option<()> {
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
                self.slice_update(*x, *update, (begin, step, extents), output)
            }
            Op::Concat { values, axis } => self.concat(values, *axis, output),
            Op::Matmul { x, y, transpose_x, transpose_y } => {
                self.matmul(*x, *y, (*transpose_x, *transpose_y), output)
            }
            Op::ReadState(state) => {
                self.read_state(item, *state, output);
                Some(())
            }
            // Elementwise operations are items of their own.
            Op::Binary(..) | Op::Unary(..) | Op::Cast(_) | Op::WriteState(..) => None,
        }
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
}
