//! The gate as a whole.

mod calibration;
mod demo_text;
mod emulated;
mod mistakes;

use anepipe_gguf::Gguf;
use half::f16;

use super::edited::{Edited, demo_path};
use super::*;
use crate::stages::quantize::Quantization;
use demo_text::DEMO_TEXT;
use emulated::Emulated;

/// Shards that give rows made by hand.
struct ByHand<F>(F);

impl<F: FnMut(&[u32], &mut dyn FnMut(usize, &[f16])) -> Result<(), TeacherError>> Teacher for ByHand<F> {
    fn logits(
        &mut self,
        tokens: &[u32],
        on_logits: &mut dyn FnMut(usize, &[f16]),
    ) -> Result<(), TeacherError> {
        (self.0)(tokens, on_logits)
    }

    fn device(&self) -> &'static str {
        "portable"
    }
}

fn text(tokens: &[u32]) -> Text {
    Text::new(tokens.to_vec(), TextSource::BuiltIn, DEFAULT_TOKENS, 512)
}

fn gate(gguf: &Gguf, tokens: &[u32], shards: &mut dyn Teacher) -> Result<GoldenReport, GoldenError> {
    let reference = Reference::open(gguf, 512).unwrap();
    let stored = Stored::new(Quantization::Int8);
    check(&reference, &stored, &text(tokens), shards, &GoldenThresholds::default(), |_, _| {})
}

/// The report on shards that give honest rows, `spoil`ed.
fn spoiled(spoil: impl Fn(usize, &mut Vec<f16>)) -> GoldenReport {
    let demo = Edited::demo();
    let mut honest = Emulated::new(&demo, 512, Stored::new(Quantization::Int8));
    let mut shards = ByHand(|tokens: &[u32], on_logits: &mut dyn FnMut(usize, &[f16])| {
        honest.logits(tokens, &mut |position, row| {
            let mut row = row.to_vec();
            spoil(position, &mut row);
            if !row.is_empty() {
                on_logits(position, &row);
            }
        })
    });
    gate(&demo.gguf(), &DEMO_TEXT[..24], &mut shards).unwrap()
}

#[test]
fn honest_shards_pass_and_the_report_reads_so() {
    let report = spoiled(|_, _| {});
    assert!(report.pass && report.failures.is_empty() && report.reason.is_none());
    assert_eq!((report.text.tokens, report.comparisons.len()), (24, 2));
    assert!(report.comparisons.iter().all(|comparison| comparison.per_token.len() == 24));
    insta::assert_snapshot!("passed", format!("{report}\n{}", report.summary()));
}

#[test]
fn a_mistake_fails_and_the_report_says_where_it_is_worst() {
    let demo = Edited::demo();
    let built = demo.clone().with_key("phi3.rope.scaling.attn_factor", 1.0_f32);
    let mut shards = Emulated::new(&built, 512, Stored::new(Quantization::Int8));
    let report = gate(&demo.gguf(), &DEMO_TEXT[..24], &mut shards).unwrap();
    assert!(!report.pass);
    insta::assert_snapshot!("failed", format!("{report}\n{}", report.summary()));
}

#[test]
fn a_report_is_the_same_after_json() {
    let report = spoiled(|position, row| {
        if position == 3 {
            row[7] = f16::INFINITY;
        }
    });
    let json = serde_json::to_string_pretty(&report).unwrap();
    assert_eq!(serde_json::from_str::<GoldenReport>(&json).unwrap(), report);
    let short = GoldenReport {
        comparisons: report
            .comparisons
            .iter()
            .map(|one| Comparison { per_token: one.per_token[2..4].to_vec(), ..one.clone() })
            .take(1)
            .collect(),
        ..report
    };
    insta::assert_snapshot!("json", rounded(&serde_json::to_value(&short).unwrap()));
}

/// JSON whose numbers have six digits behind the point.
fn rounded(value: &serde_json::Value) -> String {
    fn round(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Number(number) if number.is_f64() => {
                let rounded = (number.as_f64().unwrap() * 1e6).round() / 1e6;
                *value = rounded.into();
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(round),
            serde_json::Value::Object(items) => items.values_mut().for_each(round),
            _ => {}
        }
    }
    let mut value = value.clone();
    round(&mut value);
    serde_json::to_string_pretty(&value).unwrap()
}

#[test]
fn logits_that_are_not_numbers_never_pass_and_the_reason_says_so_first() {
    for bad in [f16::NAN, f16::INFINITY, f16::NEG_INFINITY] {
        let report = spoiled(|position, row| {
            if position == 3 {
                row[7] = bad;
            }
        });
        assert_eq!(report.failures[0], Failure::NotFinite { token: 3, side: Side::Shards, logit: 7 });
        let not_finite =
            report.failures.iter().filter(|one| matches!(one, Failure::NotFinite { .. })).count();
        assert_eq!((report.pass, not_finite), (false, 1), "once, not once a comparison");
        let expected = "the shards on portable gave no usable logits: token 3: the shards give NaN or infinity for token id 7";
        assert_eq!(report.reason.as_deref(), Some(expected));
        assert!(report.comparisons.iter().all(|comparison| comparison.figures.kl_mean.is_none()));
    }
}

#[test]
fn even_limits_that_anything_meets_do_not_let_broken_logits_pass() {
    let anything = GoldenOverrides {
        cosine_mean: Some(-1.0),
        cosine_worst: Some(-1.0),
        kl_mean: Some(f64::INFINITY),
        kl_worst: Some(f64::INFINITY),
        top1_agreement: Some(0.0),
    };
    let thresholds = GoldenThresholds { stored: anything, int8: anything, ..GoldenThresholds::default() };
    let gguf = Gguf::open(&demo_path()).unwrap();
    let reference = Reference::open(&gguf, 512).unwrap();
    for (value, pass) in [(f16::ZERO, true), (f16::NAN, false)] {
        let mut shards = ByHand(|tokens: &[u32], on_logits: &mut dyn FnMut(usize, &[f16])| {
            (0..tokens.len()).for_each(|position| on_logits(position, &[value; 2048]));
            Ok(())
        });
        let stored = Stored::new(Quantization::Int8);
        let report = check(&reference, &stored, &text(&[1, 2]), &mut shards, &thresholds, |_, _| {}).unwrap();
        assert_eq!(report.pass, pass, "{report}");
    }
}

#[test]
fn rows_that_are_missing_or_too_short_fail_before_anything_is_compared() {
    let report = spoiled(|position, row| match position {
        1 | 5 => row.clear(),
        2 => row.truncate(2000),
        _ => {}
    });
    let expected = [
        Failure::Missing { token: 1 },
        Failure::Length { token: 2, expected: 2048, found: 2000 },
        Failure::Missing { token: 5 },
    ];
    assert_eq!((report.failures.as_slice(), report.comparisons.len()), (&expected[..], 0));
    let expected =
        "the shards on portable gave no usable logits: token 1: no logits (and 2 more of the kind)";
    assert_eq!(report.reason.as_deref(), Some(expected));
}

#[test]
fn a_model_file_that_breaks_is_blamed_itself() {
    let demo = Edited::demo();
    let mut norm = demo.tensor("output_norm.weight").unwrap().values.clone();
    norm[0] = f32::NAN;
    let broken = demo.clone().with_tensor("output_norm.weight", &[192], norm);
    let mut shards = Emulated::new(&demo, 512, Stored::new(Quantization::Int8));
    let report = gate(&broken.gguf(), &[1, 2, 3], &mut shards).unwrap();
    let reason = report.reason.unwrap();
    assert!(!report.pass && reason.starts_with("the reference forward itself breaks"), "{reason}");
}

#[test]
fn shards_that_refuse_and_texts_that_cannot_be_run_are_errors() {
    let gguf = Gguf::open(&demo_path()).unwrap();
    let mut refusing = ByHand(|_: &[u32], _: &mut dyn FnMut(usize, &[f16])| Err("no memory".into()));
    let error = gate(&gguf, &[1], &mut refusing).unwrap_err().to_string();
    assert_eq!(error, "golden gate: running the shards on portable: no memory");
    // The shards are not asked.
    let error = gate(&gguf, &[], &mut refusing).unwrap_err();
    assert!(matches!(error, GoldenError::Reference(ReferenceError::NoTokens)));
    let error = gate(&gguf, &[9999], &mut refusing).unwrap_err().to_string();
    assert!(error.contains("token 9999 at position 0"), "{error}");
}

#[test]
fn progress_runs_once_over_both_runs_of_the_reference() {
    let demo = Edited::demo();
    let gguf = demo.gguf();
    let stored = Stored::new(Quantization::F16);
    let mut shards = Emulated::new(&demo, 512, stored.clone());
    let mut told = Vec::new();
    let reference = Reference::open(&gguf, 512).unwrap();
    let thresholds = GoldenThresholds::default();
    check(&reference, &stored, &text(&[1, 2]), &mut shards, &thresholds, |done, of| told.push((done, of)))
        .unwrap();
    assert_eq!(told, (1..=8).map(|done| (done, 8)).collect::<Vec<_>>());
}

#[test]
fn slices_of_the_head_have_scales_of_their_own() {
    let demo = Edited::demo();
    let gguf = demo.gguf();
    let reference = Reference::open(&gguf, 512).unwrap();
    let logits = |head_slices: &[std::ops::Range<u32>]| {
        let stored = Stored { quantization: Quantization::Int8PerTensor, head_slices: head_slices.to_vec() };
        let mut rows = Vec::new();
        let run = reference.stored_as(stored);
        run.forward(&[1, 2, 3], |_, _| {}, |_, row| rows.push(row.to_vec())).unwrap();
        rows
    };
    let whole = logits(&[]);
    assert_eq!(logits(std::slice::from_ref(&(0..2048))), whole);
    // Where the largest weight is, the scale is that of the whole.
    let sliced = logits(&[0..1024, 1024..2048]);
    let same = |range: std::ops::Range<usize>| {
        whole.iter().zip(&sliced).all(|(a, b)| a[range.clone()] == b[range.clone()])
    };
    assert!(same(0..1024) != same(1024..2048));
}
