//! A report for people: a line a layer, then what is beyond a limit.

use std::fmt::{self, Display, Formatter};

use super::place::{PartKind, What};
use super::report::{Bound, Entry, PartReport, RangeReport, Verdict};

/// Values beyond a limit that are listed, of each verdict.
const LISTED: usize = 12;

impl Display for RangeReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "activation range on {}, {} prompts, {} tokens: {}",
            self.device,
            self.prompts,
            self.tokens,
            if self.pass { "ok" } else { "FAILED" }
        )?;
        let row = |f: &mut Formatter<'_>, name: &str, cells: [&str; 8]| {
            write!(f, "  {name:<12}")?;
            cells.iter().try_for_each(|cell| write!(f, " {cell:>9}"))?;
            writeln!(f)
        };
        let titles = ["stream", "norm in", "least rms", "most rms", "conv in", "conv out", "scores", "other"];
        row(f, "part", titles)?;
        for part in &self.layers {
            let cell = |kinds: &[What]| {
                let found = part.worst.iter().filter(|entry| kinds.contains(&entry.what));
                // One that is no number comes before all others.
                let worst = found.max_by(|a, b| {
                    let size = |entry: &Entry| entry.value.unwrap_or(f64::INFINITY);
                    size(a).total_cmp(&size(b))
                });
                worst.map_or_else(|| "-".to_owned(), |entry| figure(entry.value))
            };
            let cells = [
                cell(&[What::Stream]),
                cell(&[What::NormInput]),
                cell(&[What::NormRmsSmallest]),
                cell(&[What::NormRmsLargest]),
                cell(&[What::Int8Input, What::HalfInput]),
                cell(&[What::ConvolutionOutput]),
                cell(&[What::Scores]),
                cell(&[What::Other]),
            ];
            row(f, &part.name(), cells.each_ref().map(String::as_str))?;
        }
        for (verdict, word) in [(Verdict::Failed, "FAILED"), (Verdict::Warning, "warning")] {
            let entries =
                self.layers.iter().flat_map(|part| part.worst.iter().map(move |entry| (part, entry)));
            let entries: Vec<_> = entries.filter(|(_, entry)| entry.verdict == verdict).collect();
            for (part, entry) in entries.iter().take(LISTED) {
                writeln!(f, "{word}: {}", sentence(part, entry))?;
            }
            if entries.len() > LISTED {
                writeln!(f, "{word}: {} more, in the JSON form", entries.len() - LISTED)?;
            }
        }
        let int8 = self.layers.iter().any(|part| part.worst.iter().any(Entry::is_beyond_int8));
        if int8 {
            writeln!(f, "{}: {}", self.limits.int8_input, self.limits.int8_source)?;
        }
        Ok(())
    }
}

impl Entry {
    fn is_beyond_int8(&self) -> bool {
        let what = !matches!(self.what, What::NormRmsSmallest | What::NormRmsLargest | What::NormSquares);
        what && self.verdict != Verdict::Ok && self.value.is_some()
    }
}

impl PartReport {
    fn name(&self) -> String {
        match (self.part, self.layer) {
            (PartKind::Layer, Some(layer)) => format!("layer {layer}"),
            (PartKind::OutputNorm, _) => "output norm".to_owned(),
            (PartKind::LmHead, _) => "LM head".to_owned(),
            _ => "shared".to_owned(),
        }
    }
}

impl Display for What {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stream => "the residual stream",
            Self::NormInput => "the norm's input",
            Self::NormRmsSmallest => "the smallest rms of the norm's input",
            Self::NormRmsLargest => "the largest rms of the norm's input",
            Self::NormSquares => "the norm's sum of scaled squares",
            Self::Int8Input => "the input of the int8 convolution",
            Self::HalfInput => "the input of the fp16 convolution",
            Self::ConvolutionOutput => "the convolution's output",
            Self::Scores => "the attention scores",
            Self::Other => "the result",
        })
    }
}

/// Why the gate failed: the failure that the others may follow from, and how many there are.
pub(super) fn reason(part: &PartReport, entry: &Entry, failures: usize) -> String {
    let first = sentence(part, entry);
    match failures {
        0 | 1 => first,
        _ => format!("{first}; {failures} values are beyond a limit"),
    }
}

/// What is wrong with a value, where, and what to expect of it.
fn sentence(part: &PartReport, entry: &Entry) -> String {
    let Entry { what, operation, prompt, limit, .. } = entry;
    let place = format!("{} ({}), {operation}", part.name(), part.shard);
    let at = entry.position.map(|position| format!(", position {position}")).unwrap_or_default();
    let at = format!("prompt {prompt}{at}");
    if entry.value.is_none() {
        return format!("{place}: {what} is infinite or NaN ({at}); fp16 ends at {limit}");
    }
    let side = match entry.bound {
        Bound::AtLeast => "below",
        Bound::AtMost => "beyond",
    };
    let consequence = match what {
        What::Int8Input => "int8 products are expected to saturate on the Neural Engine",
        What::HalfInput => "as an int8 convolution it would be expected to saturate on the Neural Engine",
        What::NormSquares => "an engine that sums in fp16 is expected to overflow",
        What::NormRmsSmallest | What::NormRmsLargest => "the norm's error was not measured there",
        What::NormInput => "no fp16 number is as large",
        What::Stream | What::ConvolutionOutput | What::Scores | What::Other => {
            "fp16 holds it, but slices of it are said to overflow on M1 and A14"
        }
    };
    format!("{place}: {what} reaches {}, {side} {limit} ({at}); {consequence}", figure(entry.value))
}

/// Four digits or so.
fn figure(value: Option<f64>) -> String {
    let Some(value) = value else { return "no number".to_owned() };
    match value {
        0.0 => "0".to_owned(),
        1000.0.. => format!("{value:.0}"),
        100.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        0.001.. => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}
