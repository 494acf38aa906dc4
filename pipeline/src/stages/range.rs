//! The range gate over a whole model, as a command; a build does not run it, because it is about the prompts of a use.

use std::ops::Range;
use std::sync::Arc;

use anepipe_runtime::bundle::Parts;
use anepipe_runtime::portable::PortableDevice;

use super::whole::WholeModel;
use crate::error::StageError;
use crate::gates::exact::Prompt;
use crate::gates::range::{self, Collector, RangeReport, Shard};

/// Loads the model of `parts` on `device`, forces `prompts` through it, and reports the worst value of each layer. `layers` has the
/// layers of each of the parts' shards. `on_prompt` is told how many are done.
pub fn run(
    device: &PortableDevice,
    parts: &Parts,
    layers: &[Range<u32>],
    prompts: &[Prompt],
    on_prompt: impl FnMut(usize),
) -> Result<RangeReport, StageError> {
    let shards = parts.layers.iter().cloned().zip(layers.iter().cloned().map(Shard::Layers));
    let heads = parts.heads.iter().map(|head| (head.path.clone(), Shard::Head(head.rows.clone())));
    let collector = Arc::new(Collector::new(shards.chain(heads).collect(), &parts.widths));
    let whole = WholeModel::open(parts, &device.clone().with_observer(collector.clone()))?;
    let prompts: Vec<_> = prompts.iter().map(|prompt| whole.tokens(prompt)).collect();
    Ok(range::check(&whole.model, &collector, &prompts, on_prompt)?)
}
