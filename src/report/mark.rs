//! The words and the look of a verdict. Nothing else on the page words one, so that no prediction can look like a measurement:
//! it has other words, another border and never the color of a proof.

use maud::{Markup, html};

/// How a report knows what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// It was run there.
    Measured { on: String },
    /// Rules lead one to expect it there.
    Predicted { of: String },
}

impl Source {
    pub(super) fn measured(on: impl Into<String>) -> Self {
        Self::Measured { on: on.into() }
    }

    pub(super) fn is_prediction(&self) -> bool {
        matches!(self, Self::Predicted { .. })
    }

    /// The label that stands beside every verdict: `measured on portable`, `predicted for m4, macOS 26`.
    pub(super) fn label(&self) -> Markup {
        match self {
            Self::Measured { on } => html! { span.mark.measured { "measured" } " on " (on) },
            Self::Predicted { of } => html! { span.mark.predicted { "predicted" } " for " (of) },
        }
    }

    /// The verdict of a report of this source.
    pub(super) fn verdict(&self, pass: bool) -> Markup {
        match (self, pass) {
            (Self::Measured { .. }, true) => html! { span.passed { "passed" } },
            (Self::Measured { .. }, false) => html! { span.failed { "failed" } },
            (Self::Predicted { .. }, true) => html! { span.expected { "predicted yes" } },
            (Self::Predicted { .. }, false) => html! { span.doubted { "predicted no" } },
        }
    }
}

/// What stands in the place of a verdict where there is none.
pub(super) fn not_run() -> Markup {
    html! { span.absent { "not run" } }
}

/// The verdict of one comparison or figure of something that was run.
pub(super) fn met(pass: bool) -> Markup {
    if pass {
        html! { span.passed { "ok" } }
    } else {
        html! { span.failed { "failed" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_has_none_of_the_words_and_looks_of_a_measurement() {
        let predicted = Source::Predicted { of: "m4, macOS 26".to_owned() };
        for pass in [true, false] {
            let text = html! { (predicted.label()) (predicted.verdict(pass)) }.into_string();
            assert!(text.contains(">predicted</span> for m4, macOS 26"), "{text}");
            assert!(text.contains(if pass { "predicted yes" } else { "predicted no" }), "{text}");
            for word in ["measured", "passed", "failed"] {
                assert!(!text.contains(word), "{text}");
            }
        }
        let measured = Source::measured("portable");
        let text =
            html! { (measured.label()) (measured.verdict(true)) (measured.verdict(false)) }.into_string();
        assert!(text.contains(">measured</span> on portable") && !text.contains("predicted"), "{text}");
        assert!(text.contains(">passed<") && text.contains(">failed<"), "{text}");
    }

    #[test]
    fn names_of_machines_are_escaped() {
        let hostile = "<b>m4</b>&\"";
        for source in [Source::measured(hostile), Source::Predicted { of: hostile.to_owned() }] {
            assert!(source.label().into_string().ends_with("&lt;b&gt;m4&lt;/b&gt;&amp;&quot;"));
        }
    }
}
