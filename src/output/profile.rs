//! The kernels of passes as a Chrome trace and as sums: where the time of decoding goes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use anepipe_pipeline::operation::in_layer;
use anepipe_runtime::portable::{KernelKind, KernelRun, Profiler};
use serde_json::{Value, json};

/// Collects kernels; [`Profile::trace`] gives the document (open it in Perfetto), [`Profile::table`] the sums.
#[derive(Debug)]
pub(crate) struct Profile {
    begun: Instant,
    shape: OnceLock<Shape>,
    passes: Mutex<Vec<Pass>>,
}

/// What names of shards and functions stand for.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Each shard of layers in the order of a pass, with the number of its first layer.
    pub(crate) shards: Vec<(PathBuf, u32)>,
    /// Tokens of functions whose name does not say it.
    pub(crate) block: u32,
}

/// Kernels of one pass: of all its shards, heads included.
#[derive(Debug)]
struct Pass {
    /// Tokens that its functions take.
    tokens: u32,
    kernels: Vec<Kernel>,
}

/// Times in seconds since the profile began.
#[derive(Debug)]
struct Kernel {
    operation: String,
    kind: KernelKind,
    layer: Option<u32>,
    tokens: u32,
    began: f64,
    took: f64,
    bytes: usize,
}

impl Profile {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), shape: OnceLock::new(), passes: Mutex::default() }
    }

    /// Says what is about to be run, once.
    pub(crate) fn about(&self, shape: Shape) {
        self.shape.get_or_init(|| shape);
    }

    /// One span a kernel.
    pub(crate) fn trace(&self) -> Value {
        let passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        let spans = passes.iter().enumerate().flat_map(|(number, pass)| {
            pass.kernels.iter().map(move |kernel| {
                json!({
                    "name": kernel.operation, "cat": kernel.kind.name(), "ph": "X", "pid": 1, "tid": 0,
                    "ts": micros(kernel.began), "dur": micros(kernel.took),
                    "args": {
                        "layer": kernel.layer, "pass": number, "tokens": kernel.tokens, "bytes": kernel.bytes,
                    },
                })
            })
        });
        json!({"traceEvents": spans.collect::<Vec<_>>(), "displayTimeUnit": "ms"})
    }

    /// Per width of passes, what a pass takes on average, kernel by kernel.
    pub(crate) fn table(&self) -> String {
        let passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut widths: BTreeMap<u32, Sums> = BTreeMap::new();
        for (number, pass) in passes.iter().enumerate() {
            widths.entry(pass.tokens).or_default().add(pass, passes.get(number + 1));
        }
        widths.iter().map(|(tokens, sums)| sums.words(*tokens)).collect::<Vec<_>>().join("\n")
    }
}

impl Profiler for Profile {
    fn ran(&self, run: &KernelRun<'_>) {
        let (shards, block) = self.shape.get().map_or((&[][..], 1), |shape| (&shape.shards, shape.block));
        let shard = shards.iter().position(|(path, _)| path == run.shard);
        let first = shard.and_then(|shard| shards.get(shard)).map(|(_, first)| *first);
        let slot = in_layer(run.operation).map(|(slot, _)| slot);
        let width = run.function.strip_prefix('t').and_then(|digits| digits.parse().ok());
        let tokens = width.unwrap_or(block);
        let kernel = Kernel {
            operation: run.operation.to_owned(),
            kind: run.kernel,
            layer: first.zip(slot).map(|(first, slot)| first + slot),
            tokens,
            began: run.began.saturating_duration_since(self.begun).as_secs_f64(),
            took: run.took.as_secs_f64(),
            bytes: run.weight_bytes,
        };
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        if passes.is_empty() || (shard == Some(0) && run.step == 0) {
            passes.push(Pass { tokens, kernels: Vec::new() });
        }
        if let Some(pass) = passes.last_mut() {
            pass.kernels.push(kernel);
        }
    }
}

impl Pass {
    fn begin(&self) -> f64 {
        self.kernels.first().map_or(0.0, |kernel| kernel.began)
    }

    fn end(&self) -> f64 {
        self.kernels.last().map_or(0.0, |kernel| kernel.began + kernel.took)
    }
}

/// The passes of one width together.
#[derive(Debug, Default)]
struct Sums {
    passes: usize,
    seconds: f64,
    /// Seconds, and bytes of weights.
    kinds: BTreeMap<KernelKind, (f64, usize)>,
}

impl Sums {
    /// A pass lasts until the next one begins: choosing tokens and drafts is part of it.
    fn add(&mut self, pass: &Pass, next: Option<&Pass>) {
        self.passes += 1;
        self.seconds += next.map_or(pass.end(), Pass::begin) - pass.begin();
        for kernel in &pass.kernels {
            let (seconds, bytes) = self.kinds.entry(kernel.kind).or_default();
            *seconds += kernel.took;
            *bytes += kernel.bytes;
        }
    }

    fn words(&self, tokens: u32) -> String {
        let Self { passes, seconds, kinds } = self;
        let passes_in = *passes as f64;
        let mut words = format!(
            "{passes} {} of {tokens} {}, {:.3} ms each:\n",
            if *passes == 1 { "pass" } else { "passes" },
            if tokens == 1 { "token" } else { "tokens" },
            1e3 * seconds / passes_in,
        );
        let mut line = |name: &str, part: f64, bytes: usize| {
            let rate =
                if bytes == 0 { String::new() } else { format!(" {:7.1} GB/s", bytes as f64 / part / 1e9) };
            let (each, share) = (1e3 * part / passes_in, 100.0 * part / seconds);
            // Writing to a string does not fail.
            let _ = writeln!(words, "  {name:<15} {each:9.3} ms {share:5.1} %{rate}");
        };
        let mut sorted: Vec<_> = kinds.iter().collect();
        sorted.sort_by(|(_, (a, _)), (_, (b, _))| b.total_cmp(a));
        for (kind, (part, bytes)) in sorted {
            line(kind.name(), *part, *bytes);
        }
        let kernels: f64 = kinds.values().map(|(part, _)| part).sum();
        line("between kernels", seconds - kernels, 0);
        words
    }
}

/// Chrome traces count in microseconds; kernels may be shorter than one.
fn micros(seconds: f64) -> f64 {
    (seconds * 1e9).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    /// Two passes of four tokens, through two shards and a head that takes one.
    fn profile() -> Profile {
        let profile = Profile::new();
        profile.about(Shape { shards: vec![("a".into(), 0), ("b".into(), 3)], block: 4 });
        let runs = [
            ("a", "t4", 0, "attn_mask", KernelKind::Masks, 0),
            ("a", "t4", 1, "l2_qkv", KernelKind::Int8Matrix, 3_000_000),
            ("b", "t4", 0, "l0_qkv", KernelKind::Int8Matrix, 1_000_000),
            ("head", "t1", 0, "logits", KernelKind::HalfMatrix, 500),
        ];
        let mut began = profile.begun;
        for _ in 0..2 {
            for (shard, function, step, operation, kernel, weight_bytes) in runs {
                let (shard, took) = (Path::new(shard), Duration::from_millis(2));
                profile.ran(&KernelRun {
                    shard,
                    function,
                    step,
                    operation,
                    kernel,
                    began,
                    took,
                    weight_bytes,
                });
                began += Duration::from_micros(2500);
            }
        }
        profile
    }

    #[test]
    fn spans_say_the_layer_of_the_model_and_the_pass() {
        let trace = profile().trace();
        let spans = trace["traceEvents"].as_array().expect("spans");
        let found: Vec<_> = spans
            .iter()
            .map(|span| {
                let args = &span["args"];
                let number = |key: &str| args[key].as_u64();
                (span["name"].as_str().expect("a name"), number("layer"), number("pass"), number("tokens"))
            })
            .collect();
        let pass = |number| {
            [("attn_mask", None, 4), ("l2_qkv", Some(2), 4), ("l0_qkv", Some(3), 4), ("logits", None, 1)]
                .map(|(name, layer, tokens)| (name, layer, Some(number), Some(tokens)))
        };
        assert_eq!(found, [pass(0), pass(1)].concat());
        assert_eq!((&spans[1]["ts"], &spans[1]["dur"]), (&json!(2500.0), &json!(2000.0)));
        assert_eq!(
            (&spans[1]["cat"], &spans[1]["args"]["bytes"]),
            (&json!("int8 matrix"), &json!(3_000_000))
        );
    }

    #[test]
    fn sums_are_by_kind_and_what_is_left_lies_between() {
        let table = profile().table();
        // The first pass lasts 10 ms, to the second's begin; the second 9.5 ms, to its last kernel's end.
        let expected = "2 passes of 4 tokens, 9.750 ms each:\n  \
                          int8 matrix         4.000 ms  41.0 %     1.0 GB/s\n  \
                          fp16 matrix         2.000 ms  20.5 %     0.0 GB/s\n  \
                          masks               2.000 ms  20.5 %\n  \
                          between kernels     1.750 ms  17.9 %\n";
        assert_eq!(table, expected);
    }
}
