//! What every gate's report says besides its figures.

use serde::Deserialize;

/// Whether a gate's report lets what it looked at pass, and how it knows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// Its word.
    pub pass: bool,
    /// Why not, in one sentence.
    pub reason: Option<String>,
    /// `measured` or `predicted`; a report that does not say is of what was run.
    #[serde(default = "measured")]
    pub source: String,
}

fn measured() -> String {
    "measured".to_owned()
}

impl Verdict {
    /// Reads it off a report's JSON.
    pub fn of(report: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(report)
    }

    /// Whether it is a guess by rules, and not what a device did.
    pub fn is_prediction(&self) -> bool {
        self.source == "predicted"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_does_not_say_how_it_knows_was_measured() {
        for (report, prediction) in [
            (r#"{"pass": true, "checks": []}"#, false),
            (r#"{"pass": false, "reason": "why", "source": "measured"}"#, false),
            (r#"{"pass": false, "reason": "why", "source": "predicted"}"#, true),
        ] {
            let verdict = Verdict::of(report.as_bytes()).expect("a verdict");
            assert_eq!(verdict.is_prediction(), prediction, "{report}");
        }
        assert!(Verdict::of(b"{}").is_err());
    }
}
