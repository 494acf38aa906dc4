//! The device that `--device` names, and what it has to tell.

use anepipe_runtime::device::{self, Cpu, Device};
use anepipe_runtime::error::RuntimeError;

use crate::cli::Runs;
use crate::output;

/// Opens the device.
pub(super) fn open(runs: Runs) -> Result<Box<dyn Device>, RuntimeError> {
    device::open(runs.device, Cpu { threads: runs.threads, isa: runs.isa })
}

/// Says what loading took, on a device where that is worth saying: whoever measures anything there needs it apart.
pub(super) fn tell_loads(device: &dyn Device) {
    for time in device.load_times() {
        output::message(&time.to_string());
    }
}
