//! Deliberate faults, so that tests can see the gates catch them. Only a build with the feature `fault-injection`, which
//! the tests turn on, has a way to ask for one.

use anepipe_pipeline::build::Fault;

/// The fault that `ANEPIPE_FAULT` names.
#[cfg(feature = "fault-injection")]
pub(super) fn from_environment() -> anyhow::Result<Option<Fault>> {
    match std::env::var("ANEPIPE_FAULT").as_deref() {
        Err(_) => Ok(None),
        Ok("no-permute") => Ok(Some(Fault::NoPermute)),
        Ok("rope-head-dim") => Ok(Some(Fault::RopeHeadDim)),
        Ok(other) => {
            Err(crate::exit::Failed::usage(format!("ANEPIPE_FAULT: there is no fault {other}")).into())
        }
    }
}

/// None: this build has no faults.
#[cfg(not(feature = "fault-injection"))]
#[expect(clippy::unnecessary_wraps, reason = "the twin above can fail")]
pub(super) fn from_environment() -> anyhow::Result<Option<Fault>> {
    Ok(None)
}
