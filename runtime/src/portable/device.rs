//! The device itself: how shards are executed.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use super::kernel::Isa;
use super::observe::Observer;
use super::profile::Profiler;
use super::shard::{Onlookers, PortableShard};
use super::threads::Threads;
use crate::device::{Device, Shard};
use crate::error::RuntimeError;

/// What runs a shard. Both give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    /// Kernels, planned when a shard is loaded.
    Plan,
    /// One operation after the other, one scalar at a time: thousands of times slower, and easy to check by reading.
    Interpreter,
}

/// Runs compiled shards on any CPU.
#[derive(Debug, Clone)]
pub struct PortableDevice {
    executor: Executor,
    isa: Isa,
    threads: Threads,
    onlookers: Onlookers,
}

impl PortableDevice {
    /// A device that uses every core and the best instructions this machine has.
    pub fn new() -> Self {
        Self {
            executor: Executor::Plan,
            isa: Isa::best(),
            threads: Threads::all(),
            onlookers: Onlookers::default(),
        }
    }

    /// The same device with another executor.
    #[must_use]
    pub fn with_executor(self, executor: Executor) -> Self {
        Self { executor, ..self }
    }

    /// The same device with other instructions.
    #[must_use]
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    /// The same device, telling `observer` of everything that shards compute which are loaded from now on. It changes no bit.
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn Observer>) -> Self {
        let onlookers = Onlookers { observer: Some(observer), ..self.onlookers };
        Self { onlookers, ..self }
    }

    /// The same device, telling `profiler` how long each kernel takes of shards which are loaded from now on. It changes no bit.
    #[must_use]
    pub fn with_profiler(self, profiler: Arc<dyn Profiler>) -> Self {
        let onlookers = Onlookers { profiler: Some(profiler), ..self.onlookers };
        Self { onlookers, ..self }
    }

    /// The same device with a number of threads of its own. One thread is the caller's. Whatever their number, a pass allocates
    /// nothing once the buffers of its width have their size.
    pub fn with_threads(self, count: NonZeroUsize) -> Result<Self, RuntimeError> {
        Ok(Self { threads: Threads::new(count)?, ..self })
    }
}

impl Default for PortableDevice {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for PortableDevice {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn load(&self, model: &Path) -> Result<Box<dyn Shard>, RuntimeError> {
        let onlookers = self.onlookers.clone();
        Ok(Box::new(PortableShard::load(model, self.executor, self.isa, &self.threads, onlookers)?))
    }
}
