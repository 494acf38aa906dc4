//! A device that does something on purpose to every pass of the layers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anepipe_runtime::device::{Device, Function, Shard, State};
use anepipe_runtime::error::RuntimeError;
use anepipe_runtime::pass::PassLayout;
use anepipe_runtime::portable::PortableDevice;
use anepipe_runtime::tensor::Tensor;
use half::f16;

use crate::fixture::random::Random;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Every cached row that is not committed is overwritten before a pass. Must change nothing.
    Scribble,
    /// The first slot sees one row too many. Must be noticed.
    LeakyMask,
    /// The pass after so many fails.
    FailAfter(usize),
}

/// The portable device with a fault.
pub struct Faulty {
    fault: Fault,
    /// Passes of all its shards.
    passes: Arc<AtomicUsize>,
}

impl Faulty {
    pub fn new(fault: Fault) -> Self {
        Self { fault, passes: Arc::default() }
    }
}

impl Device for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn load(&self, model: &Path) -> Result<Box<dyn Shard>, RuntimeError> {
        let shard = PortableDevice::new().load(model)?;
        Ok(Box::new(FaultyShard { shard, fault: self.fault, passes: Arc::clone(&self.passes) }))
    }
}

struct FaultyShard {
    shard: Box<dyn Shard>,
    fault: Fault,
    passes: Arc<AtomicUsize>,
}

impl Shard for FaultyShard {
    fn functions(&self) -> &[Function] {
        self.shard.functions()
    }

    fn new_state(&self) -> Box<dyn State> {
        self.shard.new_state()
    }

    fn predict(
        &self,
        function: usize,
        inputs: &[Tensor],
        state: &mut dyn State,
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError> {
        let signature = &self.functions()[function].signature;
        let passes = self.passes.fetch_add(1, Ordering::SeqCst);
        let (Some(mask), Some(write)) = (signature.input("attn_mask"), signature.input("kv_write_mask"))
        else {
            return self.shard.predict(function, inputs, state, outputs);
        };
        let mut inputs = inputs.to_vec();
        match self.fault {
            Fault::Scribble => {
                let layout = PassLayout::from_signature(signature).unwrap();
                let write = inputs[write].data();
                let row = write.iter().position(|&value| value == f16::ONE).unwrap() / layout.block();
                let mut random = Random(passes as u64);
                let noise = |rows: &mut [f16]| rows.fill_with(|| f16::from_f32(60.0 * random.unit()));
                layout.rewrite_cache(state, row..layout.context().unwrap(), noise)?;
            }
            Fault::LeakyMask => {
                let context = signature.inputs[mask].shape[3];
                let mut first = inputs[mask].data_mut().iter_mut().take(context);
                if let Some(hidden) = first.find(|value| **value != f16::ZERO) {
                    *hidden = f16::ZERO;
                }
            }
            Fault::FailAfter(count) if passes == count => {
                return Err(RuntimeError::Mismatch("the power is out".to_owned()));
            }
            Fault::FailAfter(_) => {}
        }
        self.shard.predict(function, &inputs, state, outputs)
    }
}
