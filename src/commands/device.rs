//! The device that `--device` names, and what it has to tell.

use std::num::NonZeroUsize;

use anepipe_runtime::device::{self, Device};
use anepipe_runtime::error::RuntimeError;

use crate::cli::Runs;
use crate::output;

/// Opens the device. `threads` is for the portable one alone.
pub(super) fn open(runs: &Runs, threads: Option<NonZeroUsize>) -> Result<Box<dyn Device>, RuntimeError> {
    device::open(runs.device, threads)
}

/// Says what loading took, on a device where that is worth saying: whoever measures anything there needs it apart.
pub(super) fn tell_loads(device: &dyn Device) {
    for time in device.load_times() {
        output::message(&time.to_string());
    }
}
