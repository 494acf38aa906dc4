//! The verdict, from tensors made by hand; whole models are run by the tests of the command.

use std::path::Path;

use anepipe_runtime::portable::{Kind, Observed, Observer, Side};
use half::f16;

use super::place::{Part, part, what};
use super::*;

/// Two shards of two layers and a head, in passes of up to four tokens.
fn collector() -> Collector {
    let shards = [
        ("out/layers_000_002.mlmodelc", Shard::Layers(0..2)),
        ("out/layers_002_004.mlmodelc", Shard::Layers(2..4)),
        ("out/head_0_8.mlmodelc", Shard::Head(0..8)),
    ];
    Collector::new(shards.map(|(path, shard)| (path.into(), shard)).to_vec(), &[4, 1])
}

const PROMPTS: [&str; 2] = ["first", "second"];

fn report(collector: &Collector) -> RangeReport {
    RangeReport::new("portable", &PROMPTS, 9, collector)
}

/// What an operation gives or takes: `[1, values / 4, 4, 1]`, by channels.
fn tell(collector: &Collector, shard: &str, operation: &str, (kind, side): (Kind, Side), values: &[f32]) {
    let values: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
    let shape = [1, values.len() / 4, 4, 1];
    let shard = format!("out/{shard}.mlmodelc");
    let (shard, shape, values) = (Path::new(&shard), &shape[..], &values[..]);
    collector.observe(&Observed { shard, function: "t4", operation, kind, side, shape, values });
}

const SUM: (Kind, Side) = (Kind::Elementwise, Side::Output);
const INT8: (Kind, Side) = (Kind::Int8Convolution, Side::Input);
const GIVEN: (Kind, Side) = (Kind::Int8Convolution, Side::Output);

/// The entries of a kind, by part.
fn entries(report: &RangeReport, what: What) -> Vec<(PartKind, Option<u32>, Entry)> {
    let parts = report.layers.iter();
    let entries =
        parts.flat_map(|part| part.worst.iter().map(move |entry| (part.part, part.layer, entry.clone())));
    entries.filter(|(_, _, entry)| entry.what == what).collect()
}

#[test]
fn names_say_where_an_operation_is_and_what_it_gives() {
    let observe = |operation, kind, side| {
        let observed = Observed {
            shard: Path::new("s"),
            function: "main",
            operation,
            kind,
            side,
            shape: &[],
            values: &[],
        };
        let part = part(operation, Part::Layer(7));
        (part, what(&observed, part))
    };
    let (input, output) = (Side::Input, Side::Output);
    for (operation, kind, side, expected) in [
        ("l0_after_attention", Kind::Elementwise, output, (Part::Layer(0), Some(What::Stream))),
        ("l12_after_ffn", Kind::Elementwise, output, (Part::Layer(12), Some(What::Stream))),
        ("hidden_out", Kind::Elementwise, output, (Part::Layer(7), Some(What::Stream))),
        ("l3_attn_norm_abs", Kind::Elementwise, output, (Part::Layer(3), Some(What::NormInput))),
        ("output_norm_abs", Kind::Elementwise, output, (Part::OutputNorm, Some(What::NormInput))),
        ("l3_attn_norm_peak", Kind::Reduction, output, (Part::Layer(3), None)),
        ("l3_attn_norm_mean", Kind::Reduction, output, (Part::Layer(3), Some(What::Other))),
        ("l3_attn_norm", Kind::Elementwise, output, (Part::Layer(3), Some(What::Other))),
        ("l3_qkv", Kind::Int8Convolution, input, (Part::Layer(3), Some(What::Int8Input))),
        ("l3_qkv", Kind::HalfConvolution, input, (Part::Layer(3), Some(What::HalfInput))),
        ("l3_down", Kind::HalfConvolution, output, (Part::Layer(3), Some(What::ConvolutionOutput))),
        ("l3_kv0_scores", Kind::Scores, output, (Part::Layer(3), Some(What::Scores))),
        ("l3_by_channel", Kind::Movement, output, (Part::Layer(3), None)),
        ("last_sum", Kind::Elementwise, output, (Part::Layer(7), Some(What::Other))),
        ("l99999999999_x", Kind::Elementwise, output, (Part::Layer(7), Some(What::Other))),
        ("l_x", Kind::Product, output, (Part::Layer(7), Some(What::Other))),
    ] {
        assert_eq!(observe(operation, kind, side), expected, "{operation} {kind:?}");
    }
}

#[test]
fn the_worst_of_each_kind_is_kept_with_its_prompt_and_position() {
    let collector = collector();
    collector.begin_pass(0, 0, 4);
    tell(&collector, "layers_002_004", "l1_after_ffn", SUM, &[1.0, -2.0, 3.0, 0.5]);
    // Equal is no worse.
    collector.begin_pass(0, 4, 4);
    tell(&collector, "layers_002_004", "l1_after_ffn", SUM, &[3.0, -3.0, 0.0, 0.0]);
    let of = |report: &RangeReport| {
        let [(part, layer, entry)] = &entries(report, What::Stream)[..] else { panic!("{report}") };
        assert_eq!((*part, *layer), (PartKind::Layer, Some(3)));
        (entry.value, entry.prompt.clone(), entry.position)
    };
    assert_eq!(of(&report(&collector)), (Some(3.0), "first".to_owned(), Some(2)));
    // Two tokens in four slots: the others repeat the second.
    collector.begin_pass(1, 8, 2);
    tell(&collector, "layers_002_004", "l1_after_attention", SUM, &[0.0, 0.0, 0.0, -4.0]);
    assert_eq!(of(&report(&collector)), (Some(4.0), "second".to_owned(), Some(9)));
    // A tensor of one slot where the pass has four is not one of tokens.
    collector.begin_pass(1, 9, 1);
    tell(&collector, "layers_002_004", "l1_after_ffn", SUM, &[5.0, 0.0, 0.0, 0.0]);
    assert_eq!(of(&report(&collector)), (Some(5.0), "second".to_owned(), None));
    // Not a shard of this model.
    tell(&collector, "layers_009_010", "l1_after_ffn", SUM, &[9.0, 0.0, 0.0, 0.0]);
    assert_eq!(of(&report(&collector)).0, Some(5.0));
}

#[test]
fn a_norms_input_is_measured_a_token_at_a_time() {
    let collector = collector();
    collector.begin_pass(0, 0, 4);
    // Tokens (3, 4), (0, 1/512), (8, 8), (1, 1): the second below the floor, under which the norm does not scale up further.
    let magnitudes = [3.0, 0.0, 8.0, 1.0, 4.0, 1.0 / 512.0, 8.0, 1.0];
    tell(&collector, "layers_000_002", "l0_ffn_norm_abs", SUM, &magnitudes);
    let report = report(&collector);
    for (what, value, position, verdict) in [
        (What::NormInput, 8.0, 2, Verdict::Ok),
        (What::NormRmsLargest, 8.0, 2, Verdict::Ok),
        (What::NormRmsSmallest, 1.0 / 512.0 / f64::sqrt(2.0), 1, Verdict::Ok),
        // 25, 1, 32 and 32.
        (What::NormSquares, 32.0, 2, Verdict::Ok),
    ] {
        let (_, _, entry) = entries(&report, what)[0].clone();
        let found = entry.value.unwrap();
        assert!((found - value).abs() < 1e-12 * value, "{what:?}: {found}");
        assert_eq!((entry.position, entry.verdict), (Some(position), verdict), "{what:?}");
    }
}

#[test]
fn each_kind_is_held_to_its_own_limit() {
    let limits = Limits::default();
    let (ok, warning, failed) = (Verdict::Ok, Verdict::Warning, Verdict::Failed);
    for (what, value, expected) in [
        (What::Int8Input, 4094.0, ok),
        (What::Int8Input, 4096.0, failed),
        (What::HalfInput, 4094.0, ok),
        (What::HalfInput, 4096.0, warning),
        (What::Stream, 4096.0, warning),
        (What::ConvolutionOutput, 65504.0, warning),
        (What::Scores, 4096.0, warning),
        (What::Other, 4096.0, warning),
        (What::NormInput, 65504.0, ok),
        (What::NormSquares, 65504.0, ok),
        (What::NormSquares, 65505.0, failed),
        (What::NormRmsSmallest, 0.001, ok),
        (What::NormRmsSmallest, 0.0009, warning),
        (What::NormRmsLargest, 50.0, ok),
        (What::NormRmsLargest, 50.1, warning),
    ] {
        assert_eq!(report::judge(what, Some(value), &limits).2, expected, "{what:?} {value}");
        assert_eq!(report::judge(what, None, &limits).2, failed, "{what:?}");
    }
}

fn ordinary(collector: &Collector) {
    collector.begin_pass(0, 0, 4);
    tell(collector, "layers_000_002", "kv_keep", SUM, &[1.0; 4]);
    for (shard, slot) in [("layers_000_002", 0), ("layers_000_002", 1), ("layers_002_004", 0)] {
        let name = |name: &str| format!("l{slot}_{name}");
        tell(collector, shard, &name("attn_norm_abs"), SUM, &[0.02, 0.01, 0.03, 0.02]);
        tell(collector, shard, &name("attn_norm"), SUM, &[1.5, -2.5, 1.0, 1.0]);
        tell(collector, shard, &name("qkv"), INT8, &[1.5, -2.5, 1.0, 1.0]);
        tell(collector, shard, &name("qkv"), GIVEN, &[123.4, 7.0, 7.0, 7.0]);
        tell(collector, shard, &name("kv0_scores"), (Kind::Scores, Side::Output), &[3.0, 4.0, 5.0, 6.0]);
        tell(collector, shard, &name("after_attention"), SUM, &[0.5; 4]);
    }
    tell(collector, "layers_002_004", "output_norm_abs", SUM, &[0.5; 4]);
    tell(collector, "layers_002_004", "hidden_out", SUM, &[1.0; 4]);
    tell(collector, "head_0_8", "logits", INT8, &[1.0; 4]);
    tell(collector, "head_0_8", "logits", GIVEN, &[20.0, 10.0, 10.0, 10.0]);
}

#[test]
fn ordinary_values_pass() {
    let collector = collector();
    ordinary(&collector);
    let report = report(&collector);
    assert!(report.pass && report.reason.is_none() && report.warnings == 0, "{report}");
    insta::assert_snapshot!("passed", report);
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&report.layers[1]).unwrap());
}

#[test]
fn what_is_beyond_a_limit_is_named_with_its_layer_its_operation_and_what_to_expect() {
    let collector = collector();
    ordinary(&collector);
    collector.begin_pass(1, 8, 3);
    tell(&collector, "layers_000_002", "l1_qkv", INT8, &[0.0, 5123.0, 0.0, 0.0]);
    tell(
        &collector,
        "layers_002_004",
        "l1_qkv",
        (Kind::HalfConvolution, Side::Input),
        &[0.0, 5124.0, 0.0, 0.0],
    );
    tell(&collector, "layers_002_004", "l1_after_ffn", SUM, &[0.0, 0.0, -6000.0, 0.0]);
    tell(&collector, "layers_002_004", "output_norm_abs", SUM, &[60.0, 60.0, 0.0005, 0.5]);
    tell(&collector, "head_0_8", "logits", INT8, &[0.0, 0.0, 0.0, 4096.0]);
    let report = report(&collector);
    assert!(!report.pass && report.warnings == 4, "{report}");
    let reason = report.reason.clone().unwrap();
    assert!(reason.starts_with("layer 1 (layers_000_002.mlmodelc), l1_qkv:"), "{reason}");
    assert!(reason.contains("expected to saturate") && reason.contains("2 values"), "{reason}");
    insta::assert_snapshot!("failed", report);
}

#[test]
fn what_was_first_to_be_no_number_is_the_reason() {
    for (spoiled, later) in [(f32::INFINITY, f32::NAN), (f32::NAN, f32::INFINITY)] {
        let collector = collector();
        ordinary(&collector);
        collector.begin_pass(1, 4, 4);
        // A failure in a layer before, but none that explains the others.
        tell(&collector, "layers_000_002", "l0_qkv", INT8, &[5000.0, 0.0, 0.0, 0.0]);
        tell(&collector, "layers_002_004", "l0_down", GIVEN, &[0.0, spoiled, 9.0, 0.0]);
        collector.begin_pass(1, 8, 4);
        tell(&collector, "layers_000_002", "l0_qkv", GIVEN, &[later, 0.0, 0.0, 0.0]);
        let report = report(&collector);
        let reason = report.reason.clone().unwrap();
        assert!(reason.contains("layer 2 (layers_002_004.mlmodelc), l0_down"), "{reason}");
        assert!(
            reason.contains("prompt second, position 5") && reason.contains("infinite or NaN"),
            "{reason}"
        );
        let outputs = entries(&report, What::ConvolutionOutput);
        let values: Vec<_> =
            outputs.iter().map(|(_, layer, entry)| (*layer, entry.value, entry.pass)).collect();
        let expected = [
            (Some(0), None, false),
            (Some(1), Some(123.375), true),
            (Some(2), None, false),
            (None, Some(20.0), true),
        ];
        assert_eq!(values, expected);
    }
}

#[test]
fn a_norms_input_that_is_no_number_spoils_itself_and_not_the_other_tokens_figures() {
    let collector = collector();
    collector.begin_pass(0, 0, 4);
    tell(&collector, "layers_000_002", "l0_attn_norm_abs", SUM, &[1.0, f32::INFINITY, 2.0, 1.0]);
    let report = report(&collector);
    for (what, value, position, pass) in [
        (What::NormInput, None, 1, false),
        (What::NormRmsSmallest, Some(1.0), 0, true),
        (What::NormRmsLargest, Some(2.0), 2, true),
        (What::NormSquares, Some(16.0), 0, true),
    ] {
        let (_, _, entry) = entries(&report, what)[0].clone();
        assert_eq!((entry.value, entry.position, entry.pass), (value, Some(position), pass), "{what:?}");
    }
}

#[test]
fn a_long_list_is_cut_in_words_and_whole_in_data() {
    let shards = vec![("out/all.mlmodelc".into(), Shard::Layers(0..32))];
    let collector = Collector::new(shards, &[4, 1]);
    collector.begin_pass(0, 0, 4);
    for slot in 0..32 {
        tell(&collector, "all", &format!("l{slot}_qkv"), INT8, &[5000.0; 4]);
    }
    let report = report(&collector);
    let words = report.to_string();
    assert_eq!(words.lines().filter(|line| line.starts_with("FAILED: layer")).count(), 12, "{words}");
    assert!(words.contains("FAILED: 20 more"), "{words}");
    assert_eq!(entries(&report, What::Int8Input).iter().filter(|(_, _, entry)| !entry.pass).count(), 32);
    assert!(report.reason.unwrap().ends_with("32 values are beyond a limit"));
}

#[test]
fn values_of_a_program_with_other_names_are_looked_at_all_the_same() {
    let collector = collector();
    collector.begin_pass(0, 0, 4);
    tell(&collector, "layers_000_002", "v17", INT8, &[5000.0; 4]);
    tell(&collector, "layers_000_002", "v18", SUM, &[f32::NAN; 4]);
    let report = report(&collector);
    assert!(report.layers.iter().all(|part| part.part == PartKind::Shared));
    assert_eq!(report.layers[0].worst.iter().filter(|entry| !entry.pass).count(), 2);
}
