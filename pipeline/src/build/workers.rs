//! The build's Python: one worker process, started when the first stage needs it.

use std::sync::{Mutex, PoisonError};

use crate::python::{Fingerprint, PythonEnvironment, PythonError, Worker};

/// Hands out the worker. One serves a whole build: importing coremltools costs seconds, and building a graph does not.
pub struct Workers {
    environment: PythonEnvironment,
    worker: Mutex<Option<Worker>>,
}

impl Workers {
    /// Starts nothing.
    pub fn new(environment: PythonEnvironment) -> Self {
        Self { environment, worker: Mutex::new(None) }
    }

    /// What Python's outputs depend on.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.environment.fingerprint()
    }

    /// Does `work` with the worker, and starts one if there is none that lives.
    pub fn with<T>(&self, work: impl FnOnce(&mut Worker) -> T) -> Result<T, PythonError> {
        let mut slot = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let worker = match slot.take().filter(Worker::is_usable) {
            Some(worker) => slot.insert(worker),
            None => slot.insert(Worker::spawn(&self.environment)?),
        };
        Ok(work(worker))
    }
}
