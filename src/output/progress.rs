//! The event stream for eyes: one bar a stage on a terminal, a line an action with `-v`, silence otherwise.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use anepipe_pipeline::event::{Event, Label, Outcome, Timed, Unit};
use anepipe_pipeline::stage::Stage;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Draws a build's progress on stderr.
pub(crate) struct Progress {
    bars: MultiProgress,
    stages: BTreeMap<Stage, StageProgress>,
    labels: Vec<Label>,
    verbose: bool,
}

/// How far one stage is. Its bar appears with its first action that runs.
#[derive(Default)]
struct StageProgress {
    ended: u64,
    total: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(verbose: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        Self { bars, stages: BTreeMap::new(), labels: Vec::new(), verbose }
    }

    /// Takes in one event.
    pub(crate) fn read(&mut self, timed: &Timed) {
        match &timed.event {
            Event::Planned { actions } => {
                self.labels.clone_from(actions);
                for label in actions {
                    self.stages.entry(label.stage).or_default().total += 1;
                }
            }
            Event::Started { action, reasons } => {
                let Some(label) = self.labels.get(action.0).cloned() else { return };
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                self.say(&format!("{label}: {}", reasons.join("; ")));
                self.show(label.stage, label.subject);
            }
            Event::Progress { action, done, total, unit } => {
                let Some(label) = self.labels.get(action.0) else { return };
                let amount = match unit {
                    Unit::Bytes => format!("{} of {}", HumanBytes(*done), HumanBytes(*total)),
                    Unit::Items => format!("{done} of {total}"),
                };
                self.show(label.stage, format!("{}, {amount}", label.subject));
            }
            Event::Finished { action, outcome, seconds, error, .. } => {
                let Some(label) = self.labels.get(action.0).cloned() else { return };
                self.finish(label.stage);
                match outcome {
                    Outcome::Ran => self.say(&format!("{label}: ran, {seconds:.2} s")),
                    Outcome::Cached => self.say(&format!("{label}: in the store")),
                    Outcome::Skipped | Outcome::Failed => {
                        let word = if *outcome == Outcome::Failed { "failed" } else { "skipped" };
                        self.say(&format!(
                            "{label}: {word}, {}",
                            error.as_deref().unwrap_or("no reason given")
                        ));
                    }
                }
            }
        }
    }

    /// Says on the stage's bar what it is doing, and draws the bar if it is not there yet.
    fn show(&mut self, stage: Stage, doing: String) {
        let Some(progress) = self.stages.get_mut(&stage) else { return };
        let bars = &self.bars;
        let bar = progress.bar.get_or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(progress.total));
            bar.set_style(style());
            bar.set_prefix(stage.name());
            bar.set_position(progress.ended);
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            bar
        });
        bar.set_message(doing);
    }

    fn finish(&mut self, stage: Stage) {
        let Some(progress) = self.stages.get_mut(&stage) else { return };
        progress.ended += 1;
        if let Some(bar) = &progress.bar {
            bar.set_position(progress.ended);
            if progress.ended == progress.total {
                bar.finish_with_message("done");
            }
        }
    }

    /// One line above the bars, with `-v`.
    fn say(&self, line: &str) {
        if self.verbose {
            self.bars.suspend(|| super::message(line));
        }
    }
}

/// One bar for a command that does one long thing: seen on a terminal, gone when it is dropped.
pub(crate) struct Counter(ProgressBar);

impl Counter {
    /// Counts `things`, of which there are `total`.
    pub(crate) fn new(things: &'static str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        bar.set_style(style());
        bar.set_prefix(things);
        Self(bar)
    }

    /// So many are done.
    pub(crate) fn at(&self, done: u64) {
        self.0.set_position(done);
    }

    /// So many of so many are done.
    pub(crate) fn of(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.at(done);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style() -> ProgressStyle {
    // The template is a constant that a test parses; should it ever not parse, the default bar is still a bar.
    ProgressStyle::with_template(TEMPLATE)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

const TEMPLATE: &str = "{prefix:>10} [{bar:24}] {pos}/{len} {wide_msg}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_template_parses() {
        ProgressStyle::with_template(TEMPLATE).expect("a valid template");
    }
}
