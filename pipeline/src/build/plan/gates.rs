//! Gates: one function each, which adds its action and puts its name on the list that ship waits for.

use anepipe_runtime::bundle::manifest::Role;
use anepipe_runtime::device::Device as _;
use anepipe_runtime::portable::PortableDevice;
use serde_json::json;

use super::{Inputs, Planner, output, rope_of};
use crate::build::ship::{Gate, Shard};
use crate::event::ActionId;
use crate::stage::Stage;
use crate::stages::parity::{self, ParityTask};

impl Planner<'_> {
    /// Holds every width and slot of a shard to what each token gives alone.
    pub(super) fn parity(&mut self, shard: &Shard, token_embeddings: ActionId) {
        let rope = match shard.role {
            Role::Layers => Some(rope_of(self.model.contract(), self.options.fault)),
            Role::LmHead => None,
        };
        let task = ParityTask {
            name: shard.subject(),
            block: self.options.block,
            widths: self.options.all_widths(),
            rope,
            thresholds: self.options.parity,
        };
        let inputs = Inputs::from([
            ("modelc".to_owned(), output(shard.compiled, "modelc")),
            ("token_embeddings".to_owned(), output(token_embeddings, "tensors")),
        ]);
        let device = PortableDevice::new();
        let parameters = json!({"device": device.name(), "task": task});
        let action = self.add(Stage::Parity, shard.subject(), parameters, inputs, move |job| {
            let model = job.input_dir("modelc", "shard.mlmodelc")?;
            let report = parity::run(&device, &model, &job.input("token_embeddings")?, &task)?;
            job.output_json("report", &report)
        });
        self.gates.push(Gate { stage: Stage::Parity, shard: Some(shard.stem()), action });
    }
}
