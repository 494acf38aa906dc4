//! Gates: one function each, which adds its action and puts its name on the list that ship waits for.

use std::num::NonZeroUsize;

use anepipe_runtime::bundle::manifest::Role;
use anepipe_runtime::device::Device as _;
use anepipe_runtime::portable::PortableDevice;
use serde_json::{Map, json};

use super::{Inputs, Planner, json_of, object, output, rope_of};
use crate::action::Action;
use crate::build::options::ResidencyOptions;
use crate::build::ship::{Gate, Shard};
use crate::error::StageError;
use crate::event::{ActionId, Label};
use crate::stage::Stage;
use crate::stages::parity::{self, ParityTask};
use crate::stages::residency::{self, Require, ResidencyTask};

impl Planner<'_> {
    /// Every gate that a shard passes by itself.
    pub(super) fn shard_gates(
        &mut self,
        shard: &Shard,
        token_embeddings: ActionId,
    ) -> Result<(), StageError> {
        self.residency(shard)?;
        self.parity(shard, token_embeddings)
    }

    /// Holds every width and slot of a shard to what each token gives alone.
    fn parity(&mut self, shard: &Shard, token_embeddings: ActionId) -> Result<(), StageError> {
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
        // The gate runs its inputs at once and other shards' gates run beside it, so threads inside a pass would be in the way.
        let device = PortableDevice::new().with_threads(NonZeroUsize::MIN)?;
        let parameters = json!({"device": device.name(), "task": task});
        let action = self.add(Stage::Parity, shard.subject(), parameters, inputs, move |job| {
            let model = job.input_dir("modelc", "shard.mlmodelc")?;
            let report = parity::run(&device, &model, &job.input("token_embeddings")?, &task)?;
            job.output_json("report", &report)
        });
        self.gates.push(Gate { stage: Stage::Parity, shard: Some(shard.stem()), action });
        Ok(())
    }

    /// Says where a shard's operations run: predicted, since a build compiles for any machine.
    fn residency(&mut self, shard: &Shard) -> Result<(), StageError> {
        let ResidencyOptions { target, require } = self.options.residency;
        let task = ResidencyTask { name: shard.subject(), target };
        let inputs = Inputs::from([("modelc".to_owned(), output(shard.compiled, "modelc"))]);
        let action = self.graph.add(Action {
            label: Label { stage: Stage::Residency, subject: shard.subject() },
            parameters: object(json_of(&json!({"task": task, "require": require}))?),
            environment: Map::new(),
            inputs,
            gates: Vec::new(),
            predictions_decide: require != Require::Report,
            run: Box::new(move |job| {
                let report = residency::run(&job.input_dir("modelc", "shard.mlmodelc")?, &task)?;
                require.check(&report)?;
                job.output_json("report", &report)
            }),
        });
        self.gates.push(Gate { stage: Stage::Residency, shard: Some(shard.stem()), action });
        Ok(())
    }
}
