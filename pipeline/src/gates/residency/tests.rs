//! Verdicts: limits of whole programs, chips, which rule decides, contradictions, and what a report looks like.

use anepipe_mil::{Program, text};

use super::{Chip, Device, Kind, Os, ResidencyReport, Source, Subject, Target, predict, rules};

/// Weights of a shard that no rule about size speaks of.
const WEIGHTS: u64 = 100_000_000;

/// A function of `inputs` with the operations `body`, the last of which gives `y`.
fn program(inputs: &str, body: &str) -> Program {
    let text = format!("program(1.3) {{ func main<ios18>({inputs}) {{ {body} }} -> (y); }}");
    text::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}")).1
}

fn report_at(program: &Program, weight_bytes: Option<u64>, chip: Chip, os: Os) -> ResidencyReport {
    predict(&Subject { name: "layers 0..1", program, weight_bytes }, Target { chip, os }).unwrap()
}

pub(super) fn report(inputs: &str, body: &str) -> ResidencyReport {
    report_at(&program(inputs, body), Some(WEIGHTS), Chip::M4, Os::V26)
}

pub(super) fn ids(report: &ResidencyReport, kind: Kind) -> Vec<&str> {
    let hits = if kind == Kind::Hard { &report.violations } else { &report.warnings };
    hits.iter().map(|hit| hit.rule.as_str()).collect()
}

pub(super) const X: &str = "tensor<fp16, [1, 8, 4, 16]> x";
pub(super) const RELU: &str = "tensor<fp16, [1, 8, 4, 16]> y = relu(x = x)[name = string(\"act\")];";

#[test]
fn a_program_that_breaks_no_rule_is_expected_on_the_neural_engine() {
    let report = report(X, RELU);
    assert!(report.pass && report.violations.is_empty() && report.warnings.is_empty(), "{report}");
    assert_eq!((report.compute_total, report.compute_ane, report.source), (1, 1, Source::Predicted));
    let op = &report.ops[0];
    assert_eq!((op.name.as_str(), op.kind.as_str(), op.device), ("y", "relu", Device::Ane));
    assert_eq!((&op.rule, &op.reason, &op.source, &report.reason), (&None, &None, &None, &None));
    assert_eq!(report.summary(), "predicted: layers 0..1: all 1 operations on the Neural Engine");
}

pub(super) fn op(kind: &str) -> String {
    format!("tensor<fp16, [1, 8, 4, 16]> y = {kind};")
}

/// A 1×1 convolution whose weight is dequantized from `dtype` with scales of `scales`.
pub(super) fn conv(dtype: &str, scales: &str) -> String {
    format!(
        "tensor<fp16, [8, 8, 1, 1]> w = constexpr_blockwise_shift_scale(
             data = tensor<{dtype}, [8, 8, 1, 1]>(BLOBFILE(path = string(\"@model_path/w\"), offset = uint64(64))),
             scale = tensor<fp16, {scales}>(BLOBFILE(path = string(\"@model_path/w\"), offset = uint64(192))));
         tensor<fp16, [1, 8, 4, 16]> y = conv(x = x, weight = w);"
    )
}

#[test]
fn limits_of_whole_programs_are_met_at_the_limit_and_broken_beyond_it() {
    let relu = program(X, RELU);
    let long = format!("{} {RELU}", "tensor<fp16, [1, 8, 4, 16]> z = relu(x = x);".repeat(3200));
    let long = program(X, &long);
    let longer =
        program(X, &format!("{} {RELU}", "tensor<fp16, [1, 8, 4, 16]> z = relu(x = x);".repeat(3300)));
    let table: [(&str, &Program, u64, Chip, Os); 8] = [
        ("shard-bytes-26", &relu, (2 << 30) + 1, Chip::M1, Os::V26),
        ("shard-bytes-27", &relu, (1 << 30) + 1, Chip::M4, Os::V27),
        ("shard-bytes-1g", &relu, 1_000_000_001, Chip::M4, Os::V15),
        ("shard-bytes-250m", &relu, 250_000_001, Chip::A14, Os::V27),
        ("shard-bytes-small", &relu, 13_999_999, Chip::M4, Os::V26),
        ("shard-bytes-tiny", &relu, 999_999, Chip::M4, Os::V26),
        ("op-count", &longer, WEIGHTS, Chip::M4, Os::V26),
        ("op-count-unproven", &long, WEIGHTS, Chip::M4, Os::V26),
    ];
    for (rule, program, bytes, chip, os) in table {
        let report = report_at(program, Some(bytes), chip, os);
        let hit = report.violations.iter().chain(&report.warnings).find(|hit| hit.rule == rule);
        let hit = hit.unwrap_or_else(|| panic!("{rule}: {report}"));
        assert_eq!(hit.ops, report.compute_total, "{rule}");
        if hit.kind == Kind::Hard {
            assert!(report.compute_ane == 0 && report.reason.unwrap().contains(rule), "{rule}");
        }
    }
    // At each limit, not beyond it.
    for (bytes, os) in [(2 << 30, Os::V26), (1 << 30, Os::V27), (1_000_000, Os::V26)] {
        assert!(report_at(&relu, Some(bytes), Chip::M4, os).pass, "{bytes}");
    }
}

#[test]
fn chips_differ() {
    let wide = program("tensor<fp16, [1, 1, 1, 20000]> x", "tensor<fp16, [1, 1, 1, 20000]> y = relu(x = x);");
    let many = program("tensor<fp16, [1, 70000, 1, 8]> x", "tensor<fp16, [1, 70000, 1, 8]> y = relu(x = x);");
    let update = program(X, &op("slice_update(x = x, update = x)"));
    let flexible = program("tensor<fp16, [1, 8, ?, 16]> x", "tensor<fp16, [1, 8, ?, 16]> y = relu(x = x);");
    let elsewhere = [Some("channels-65536"), Some("slice-update"), Some("flexible-shapes")];
    for (chip, wide_rule, [many_rule, update_rule, flexible_rule]) in [
        (Chip::M1, Some("extent-16384"), elsewhere),
        (Chip::M4, None, [None; 3]),
        (Chip::M5, None, elsewhere),
        (Chip::A17, None, elsewhere),
    ] {
        let cases =
            [(&wide, wide_rule), (&many, many_rule), (&update, update_rule), (&flexible, flexible_rule)];
        for (program, rule) in cases {
            let report = report_at(program, Some(WEIGHTS), chip, Os::V26);
            assert_eq!(report.ops[0].rule.as_deref(), rule, "{chip}: {report}");
        }
    }
    let phone = report_at(&wide, Some(WEIGHTS), Chip::A17, Os::V26);
    assert_eq!(ids(&phone, Kind::Warning), ["extent-16384-a"]);
}

#[test]
fn the_first_hard_rule_decides_and_the_others_are_told() {
    let program =
        program("tensor<int32, [1, 8, 4, 16]> x", "tensor<int32, [1, 8, 4, 16]> y = cumsum(x = x);");
    let report = report_at(&program, Some(3 << 30), Chip::M4, Os::V26);
    assert_eq!(ids(&report, Kind::Hard), ["shard-bytes-26", "rejected-kind", "dtype"]);
    assert_eq!(report.ops[0].rule.as_deref(), Some("shard-bytes-26"));
    let reason = report.reason.unwrap();
    assert!(
        reason.starts_with("predicted: 1 of 1 operations of layers 0..1 off the Neural Engine, by "),
        "{reason}"
    );
    assert!(
        reason.contains("shard-bytes-26 (3221.23 MB of weights), rejected-kind (cumsum), dtype"),
        "{reason}"
    );
}

#[test]
fn contradicting_sources_are_all_named_with_the_one_that_decides() {
    let update = program(X, &op("slice_update(x = x, update = x)"));
    for (chip, winner, pass) in [(Chip::M4, "resident", true), (Chip::M3, "on the CPU", false)] {
        let report = report_at(&update, Some(WEIGHTS), chip, Os::V26);
        let [conflict] = report.conflicts.as_slice() else { panic!("{report}") };
        assert_eq!((conflict.sides[conflict.decides].says.as_str(), report.pass), (winner, pass));
        let text = report.to_string();
        for side in &conflict.sides {
            assert!(text.contains(&side.says) && text.contains(&side.source), "{text}");
        }
        assert!(text.contains(&format!("the verdict follows \"{winner}\"")), "{text}");
    }
    // A verdict must follow the side that its conflict names.
    let rules = rules().unwrap();
    for conflict in &rules.conflicts {
        for id in &conflict.rules {
            let rule = rules.rules.iter().find(|rule| rule.id == *id).unwrap();
            let says = &conflict.sides[conflict.decides].says;
            let off = says.contains("on the CPU") || says.contains("rejected");
            let both = says.contains("resident");
            assert_eq!(rule.kind == Kind::Hard, off && !both, "{}: {says}", conflict.id);
        }
    }
}

#[test]
fn weights_are_reckoned_from_the_program_where_no_file_is_there() {
    let conv = program(X, &conv("int8", "[8, 1, 1, 1]"));
    let report = report_at(&conv, None, Chip::M4, Os::V26);
    assert_eq!(report.violations[0].rule, "shard-bytes-tiny");
    assert_eq!((report.conv_total, report.conv_non_ane, report.compute_total), (1, 1, 1));
}

#[test]
fn a_program_that_computes_nothing_proves_nothing() {
    let empty = program("tensor<fp16, [1]> y", "");
    let report = report_at(&empty, Some(WEIGHTS), Chip::M4, Os::V26);
    assert!(!report.pass);
    assert_eq!(report.reason.unwrap(), "predicted: the program has no operations that compute");
}

#[test]
fn operations_in_nested_blocks_count() {
    let body = "tensor<fp16, [1, 8, 4, 16]> y = cond() () {
        tensor<fp16, [1, 8, 4, 16]> z = cumsum(x = x);
    } -> (z);";
    let report = report(X, body);
    assert_eq!((report.compute_total, report.compute_non_ane), (2, 1), "{report}");
}

/// A head with top-k inside, predicted, as text and as JSON.
#[test]
fn reports_are_stable() {
    let head = format!(
        "{} tensor<fp16, [1, 1, 4, 16]> v, tensor<int32, [1, 1, 4, 16]> i = topk(x = l);
         tensor<fp16, [1, 1, 4, 16]> y = cast(x = i);",
        conv("int8", "[8, 1, 1, 1]").replace(" y = ", " l = ")
    );
    let report = report(X, &head);
    insta::assert_snapshot!("head", report.to_string());
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&report).unwrap());
    let parsed: ResidencyReport = serde_json::from_value(serde_json::to_value(&report).unwrap()).unwrap();
    assert_eq!(parsed, report);
}
