//! The event stream as a Chrome trace: one span an action that ran, in lanes that do not overlap.

use std::collections::BTreeMap;

use anepipe_pipeline::event::{ActionId, Event, Label, Timed};
use serde_json::{Value, json};

/// Collects spans; [`Trace::finish`] gives the document (open it in Perfetto).
#[derive(Default)]
pub(crate) struct Trace {
    labels: Vec<Label>,
    open: BTreeMap<ActionId, Span>,
    spans: Vec<Value>,
}

struct Span {
    lane: usize,
    began: f64,
    reasons: Vec<String>,
}

impl Trace {
    pub(crate) fn read(&mut self, timed: &Timed) {
        match &timed.event {
            Event::Planned { actions } => self.labels.clone_from(actions),
            Event::Started { action, reasons } => {
                let busy: Vec<usize> = self.open.values().map(|span| span.lane).collect();
                // One lane more than there are busy ones is enough for one to be free.
                let lane = (0..=busy.len()).find(|lane| !busy.contains(lane)).unwrap_or_default();
                let reasons = reasons.iter().map(ToString::to_string).collect();
                self.open.insert(*action, Span { lane, began: timed.at, reasons });
            }
            Event::Progress { .. } => {}
            Event::Finished { action, outcome, error, .. } => {
                let Some(Span { lane, began, reasons }) = self.open.remove(action) else { return };
                let Some(label) = self.labels.get(action.0) else { return };
                self.spans.push(json!({
                    "name": label.to_string(), "cat": label.stage.name(), "ph": "X", "pid": 1, "tid": lane,
                    "ts": micros(began), "dur": micros(timed.at - began),
                    "args": {"reasons": reasons, "outcome": outcome, "error": error},
                }));
            }
        }
    }

    pub(crate) fn finish(self) -> Value {
        json!({"traceEvents": self.spans, "displayTimeUnit": "ms"})
    }
}

/// Chrome traces count in microseconds.
fn micros(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}

#[cfg(test)]
mod tests {
    use anepipe_pipeline::event::Outcome;
    use anepipe_pipeline::stage::Stage;

    use super::*;

    #[test]
    fn actions_that_overlap_lie_in_different_lanes_and_a_lane_is_used_again() {
        let mut trace = Trace::default();
        let labels =
            (0..3).map(|layer| Label { stage: Stage::Extract, subject: format!("layer {layer}") }).collect();
        let started = |id| Event::Started { action: ActionId(id), reasons: vec![] };
        let finished = |id| Event::Finished {
            action: ActionId(id),
            outcome: Outcome::Ran,
            key: None,
            seconds: 1.0,
            error: None,
        };
        let events = [
            Event::Planned { actions: labels },
            started(0),
            started(1),
            finished(0),
            started(2),
            finished(1),
            finished(2),
        ];
        for (second, event) in events.into_iter().enumerate() {
            trace.read(&Timed { at: second as f64, event });
        }
        let trace = trace.finish();
        let spans = trace["traceEvents"].as_array().expect("spans");
        let lanes: Vec<_> = spans
            .iter()
            .map(|span| (span["name"].as_str().expect("a name"), span["tid"].as_u64(), span["dur"].as_u64()))
            .collect();
        let expected = [("extract layer 0", 0, 2), ("extract layer 1", 1, 3), ("extract layer 2", 0, 2)]
            .map(|(name, lane, seconds)| (name, Some(lane), Some(seconds * 1_000_000)));
        assert_eq!(lanes, expected);
    }
}
