//! Both sides of the default limits: what honest rounding costs, and what mistakes cost.

use super::demo_text::DEMO_TEXT;
use super::emulated::Emulated;
use super::mistakes::{Mistake, PHI3, PLAIN};
use crate::gates::golden::edited::{Edited, shared};
use crate::gates::golden::{
    Comparison, DEFAULT_TOKENS, GoldenReport, GoldenThresholds, Reference, Stored, Text, TextSource, Weights,
    check,
};
use crate::stages::quantize::Quantization;

/// A model, the tokens it reads, and the mistakes to make with it.
struct Subject {
    name: &'static str,
    model: Edited,
    tokens: Vec<u32>,
    mistakes: &'static [Mistake],
}

/// The demo with the built-in text, and small models that may be at hand with what they write themselves.
fn subjects() -> Vec<Subject> {
    let demo = Subject { name: "demo", model: Edited::demo(), tokens: DEMO_TEXT.to_vec(), mistakes: PHI3 };
    let mut all = vec![demo];
    for name in ["stories260K-phi3-f32.gguf", "stories260K-llama-f32.gguf"] {
        let (Some(path), Some(ids)) = (shared(name), shared("stories260K.golden_greedy_ids.txt")) else {
            continue;
        };
        let ids = std::fs::read_to_string(ids).unwrap();
        let tokens = [1].into_iter().chain(ids.split_whitespace().map(|id| id.parse().unwrap())).collect();
        all.push(Subject { name, model: Edited::read(&path), tokens, mistakes: PLAIN });
    }
    all
}

impl Subject {
    /// The gate's report on shards made of `built`.
    fn report(&self, built: &Edited, quantization: Quantization) -> GoldenReport {
        let original = self.model.gguf();
        let reference = Reference::open(&original, 512).unwrap();
        let text = Text::new(self.tokens.clone(), TextSource::TokenIds, DEFAULT_TOKENS, 512);
        let stored = Stored::new(quantization);
        let mut shards = Emulated::new(built, 512, stored.clone());
        check(&reference, &stored, &text, &mut shards, &GoldenThresholds::default(), |_, _| {}).unwrap()
    }
}

fn comparison(report: &GoldenReport, weights: Weights) -> &Comparison {
    report.comparisons.iter().find(|comparison| comparison.weights == weights).unwrap()
}

#[test]
fn honest_rounding_passes_and_is_far_from_the_limits() {
    for subject in subjects() {
        for quantization in Quantization::ALL {
            let report = subject.report(&subject.model, quantization);
            assert!(report.pass, "{} {report}", subject.name);
            for comparison in &report.comparisons {
                let (found, limit) = (comparison.figures.kl_mean.unwrap(), comparison.thresholds.kl_mean);
                assert!(2.0 * found < limit, "{} {report}", subject.name);
            }
            let same = comparison(&report, Weights::Stored);
            assert!(same.figures.kl_mean.unwrap() < 5e-6, "only the logits were rounded: {report}");
        }
    }
}

#[test]
fn every_mistake_fails_and_is_far_from_the_limits() {
    for subject in subjects() {
        for (mistake, change) in subject.mistakes {
            let built = change(subject.model.clone());
            // What the quantization hides is the same for every model; one is enough for those that are not always there.
            let quantizations =
                if subject.name == "demo" { &Quantization::ALL[..] } else { &[Quantization::Int8] };
            for &quantization in quantizations {
                let report = subject.report(&built, quantization);
                let same = comparison(&report, Weights::Stored);
                assert!(!report.pass && !same.pass, "{} {mistake}: {report}", subject.name);
                let (found, limit) = (same.figures.kl_mean.unwrap(), same.thresholds.kl_mean);
                assert!(found > 10.0 * limit, "{} {mistake}: {report}", subject.name);
                let reason = report.reason.unwrap();
                assert!(reason.contains("even with the same weights: mean cosine"), "{reason}");
            }
        }
    }
}

/// What the book says about the limits against the file's weights.
#[test]
fn one_scale_per_tensor_hides_the_cheapest_mistake_from_a_comparison_with_the_files_weights() {
    let [demo, ..] = &subjects()[..] else { panic!("the demo is always there") };
    let (_, no_factors) = demo.mistakes.iter().find(|(name, _)| *name == "no factors").unwrap();
    let built = no_factors(demo.model.clone());
    let hidden = demo.report(&built, Quantization::Int8PerTensor);
    assert!(comparison(&hidden, Weights::File).pass && !hidden.pass, "{hidden}");
    for quantization in [Quantization::F16, Quantization::Int8] {
        let seen = demo.report(&built, quantization);
        assert!(!comparison(&seen, Weights::File).pass, "{seen}");
    }
}

/// The limits of the gate: on a model whose hidden states are large, epsilon does not matter.
#[test]
fn a_wrong_epsilon_costs_the_demo_next_to_nothing() {
    let [demo, ..] = &subjects()[..] else { panic!("the demo is always there") };
    let built = demo.model.clone().with_key("phi3.attention.layer_norm_rms_epsilon", 1.8e-4_f32);
    let report = demo.report(&built, Quantization::F16);
    let kl = comparison(&report, Weights::Stored).figures.kl_mean.unwrap();
    assert!(report.pass && (1e-5..1e-4).contains(&kl), "{report}");
}
