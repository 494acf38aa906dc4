//! Buffers that outlive a run.

use crate::portable::graph::parameters::Call;
use crate::portable::graph::{Op, ProgramError, StateId, Storage, ValueId};

pub(super) fn read(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let state = call.state("input")?;
    emit_read(&mut call, state)
}

pub(super) fn write(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let state = call.state("input")?;
    let data = call.tensor("data")?;
    emit_write(&mut call, state, data)
}

/// `coreml_update_state`: a write, and the state read back.
pub(super) fn update(mut call: Call<'_, '_>) -> Result<(), ProgramError> {
    let state = call.state("state")?;
    let data = call.tensor("value")?;
    emit_write(&mut call, state, data)?;
    emit_read(&mut call, state)
}

fn emit_read(call: &mut Call<'_, '_>, state: StateId) -> Result<(), ProgramError> {
    let shape = call.builder().graph.states[state.0].shape.clone();
    call.emit(Op::ReadState(state), Storage::Half, shape)
}

fn emit_write(call: &mut Call<'_, '_>, state: StateId, data: ValueId) -> Result<(), ProgramError> {
    let expected = call.builder().graph.states[state.0].shape.clone();
    if call.storage(data) != Storage::Half || call.shape(data) != expected {
        return Err(call.fail(format!("{:?} does not fit the state {expected:?}", call.shape(data))));
    }
    call.builder().node(Op::WriteState(state, data), None);
    Ok(())
}
