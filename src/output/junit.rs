//! The event stream as a `JUnit` file: one test case an action, so that CI shows which stage or gate failed.

use std::time::Duration;

use anepipe_pipeline::event::{Event, Label, Outcome, Timed};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

/// Collects cases; [`JUnit::finish`] gives the document.
#[derive(Default)]
pub(crate) struct JUnit {
    labels: Vec<Label>,
    cases: Vec<TestCase>,
}

impl JUnit {
    pub(crate) fn read(&mut self, timed: &Timed) {
        match &timed.event {
            Event::Planned { actions } => self.labels.clone_from(actions),
            Event::Started { .. } | Event::Progress { .. } => {}
            Event::Finished { action, outcome, seconds, error, .. } => {
                let Some(label) = self.labels.get(action.0) else { return };
                let mut status = match outcome {
                    Outcome::Ran | Outcome::Cached => TestCaseStatus::success(),
                    Outcome::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
                    Outcome::Skipped => TestCaseStatus::skipped(),
                };
                if let Some(error) = error {
                    status.set_message(error.clone());
                }
                let mut case = TestCase::new(label.subject.clone(), status);
                case.set_classname(label.stage.name()).set_time(Duration::from_secs_f64(*seconds));
                self.cases.push(case);
            }
        }
    }

    pub(crate) fn finish(self) -> Result<String, quick_junit::SerializeError> {
        let mut suite = TestSuite::new("anepipe build");
        suite.add_test_cases(self.cases);
        let mut report = Report::new("anepipe");
        report.add_test_suite(suite);
        report.to_string()
    }
}
