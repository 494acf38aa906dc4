//! The device that `--device` names, and what it has to tell.

use std::sync::Arc;

use anepipe_runtime::device::{self, Cpu, Device, DeviceKind};
use anepipe_runtime::error::RuntimeError;
use anepipe_runtime::portable::Profiler;

use crate::cli::Runs;
use crate::exit::Failed;
use crate::output;

/// Opens the device.
pub(super) fn open(runs: Runs) -> Result<Box<dyn Device>, RuntimeError> {
    device::open(runs.device, cpu(runs))
}

fn cpu(runs: Runs) -> Cpu {
    Cpu { threads: runs.threads, isa: runs.isa }
}

/// Opens the device with somebody who is told of its kernels, which only the portable one has.
pub(super) fn open_profiled(runs: Runs, profiler: Arc<dyn Profiler>) -> anyhow::Result<Box<dyn Device>> {
    if runs.device != DeviceKind::Portable {
        let reason = "--trace shows the kernels of the device `portable`, and `coreml` has its own; leave --trace or --device out";
        return Err(Failed::usage(reason.to_owned()).into());
    }
    Ok(Box::new(cpu(runs).device()?.with_profiler(profiler)))
}

/// Says what loading took, on a device where that is worth saying: whoever measures anything there needs it apart.
pub(super) fn tell_loads(device: &dyn Device) {
    for time in device.load_times() {
        output::message(&time.to_string());
    }
}
