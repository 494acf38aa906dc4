//! The last step of compilation: results that are not needed at the same time share a buffer.

use super::Compiler;
use crate::portable::plan::Plan;
use crate::portable::plan::arena::{self, Life};
use crate::portable::plan::view::{Place, View};

impl Compiler<'_> {
    /// The plan; its steps name shared buffers where they had one a result.
    pub(super) fn finish(mut self) -> Option<Plan> {
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
