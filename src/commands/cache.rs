//! `anepipe cache`: looking after the store.

use std::time::Duration;

use anepipe_artifacts::{GcOptions, Repair};
use indicatif::HumanBytes;

use crate::cli::{Cache, Global};
use crate::exit::Exit;
use crate::output::Output;

const GIB: u64 = 1 << 30;

pub(crate) fn run(global: &Global, command: &Cache, output: Output) -> anyhow::Result<Exit> {
    let mut store = super::store(global)?;
    match *command {
        Cache::Stat => {
            let stat = store.stat()?;
            let dir = store.dir().display();
            output.result(&stat, || {
                format!(
                    "{dir}: {} in {} objects of {} actions",
                    HumanBytes(stat.bytes),
                    stat.objects,
                    stat.actions
                )
            })?;
        }
        Cache::Gc { keep, grace, dry_run } => {
            let grace = Duration::from_secs(grace.saturating_mul(3600));
            let report = store.gc(&GcOptions { budget: Some(keep.saturating_mul(GIB)), grace, dry_run })?;
            output.result(&report, || {
                let verb = if dry_run { "would delete" } else { "deleted" };
                let (removed, kept) = (HumanBytes(report.bytes_removed), HumanBytes(report.bytes_kept));
                format!("{verb} {removed} of {} actions; {kept} stay", report.actions_removed)
            })?;
        }
        Cache::Verify { repair } => {
            let report = store.verify(if repair { Repair::SetAside } else { Repair::No })?;
            output.result(&report, || {
                let mut lines: Vec<String> = report
                    .findings
                    .iter()
                    .map(|found| format!("{}: {:?}", found.path.display(), found.damage))
                    .collect();
                lines.push(format!("{} objects, {} hashed", report.objects, HumanBytes(report.bytes)));
                lines.join("\n")
            })?;
            if !report.is_sound() && !repair {
                return Ok(Exit::StoreCorrupt);
            }
        }
    }
    Ok(Exit::Ok)
}
