//! Each rule on a program made for it, the verdict, and what a report looks like.

use anepipe_mil::{Program, text};

use super::{
    CalibrationRecord, Chip, ComputePlan, Device, Kind, Os, PlanError, ResidencyReport, Source, Subject,
    Target, diff, predict, rules,
};

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

fn report(inputs: &str, body: &str) -> ResidencyReport {
    report_at(&program(inputs, body), Some(WEIGHTS), Chip::M4, Os::V26)
}

fn ids(report: &ResidencyReport, kind: Kind) -> Vec<&str> {
    let hits = if kind == Kind::Hard { &report.violations } else { &report.warnings };
    hits.iter().map(|hit| hit.rule.as_str()).collect()
}

const X: &str = "tensor<fp16, [1, 8, 4, 16]> x";
const RELU: &str = "tensor<fp16, [1, 8, 4, 16]> y = relu(x = x)[name = string(\"act\")];";

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

/// Name, inputs, body, the hard rule that must decide on the last operation, warnings that must be there.
type Case = (&'static str, String, String, Option<&'static str>, &'static [&'static str]);

fn op(kind: &str) -> String {
    format!("tensor<fp16, [1, 8, 4, 16]> y = {kind};")
}

/// A 1×1 convolution whose weight is dequantized from `dtype` with scales of `scales`.
fn conv(dtype: &str, scales: &str) -> String {
    format!(
        "tensor<fp16, [8, 8, 1, 1]> w = constexpr_blockwise_shift_scale(
             data = tensor<{dtype}, [8, 8, 1, 1]>(BLOBFILE(path = string(\"@model_path/w\"), offset = uint64(64))),
             scale = tensor<fp16, {scales}>(BLOBFILE(path = string(\"@model_path/w\"), offset = uint64(192))));
         tensor<fp16, [1, 8, 4, 16]> y = conv(x = x, weight = w);"
    )
}

const STATE: &str = "state<tensor<fp16, [1, 2, 64, 64]>> kv, ";

#[test]
fn each_rule_finds_what_it_is_about() {
    let x = X.to_owned();
    let int32 = "tensor<int32, [1, 8, 4, 16]> x".to_owned();
    let fp32 = "tensor<fp32, [1, 8, 4, 16]> x".to_owned();
    let with_state = format!("{STATE}{X}");
    let wide = |shape: &str| format!("tensor<fp16, {shape}> x");
    let relu = |shape: &str| format!("tensor<fp16, {shape}> y = relu(x = x);");
    let inf = "tensor<fp16, [1]>([-inf])";
    let table: Vec<Case> = vec![
        ("plain", x.clone(), op("relu(x = x)"), None, &[]),
        ("prefix", x.clone(), op("gather_along_axis(x = x, indices = x)"), Some("rejected-kind"), &[]),
        ("exact kind", x.clone(), op("cumsum(x = x)"), Some("rejected-kind"), &[]),
        ("not a prefix", x.clone(), op("tanh(x = x)"), None, &[]),
        ("fused", x.clone(), op("scaled_dot_product_attention(query = x)"), Some("fused-attention"), &[]),
        ("wide integers", int32.clone(), "tensor<int32, [1, 8, 4, 16]> y = relu(x = x);".into(), Some("dtype"), &[]),
        ("fp32", fp32, "tensor<fp32, [1, 8, 4, 16]> y = relu(x = x);".into(), Some("dtype"), &[]),
        ("integer constants", x.clone(),
            "tensor<int32, [4]> b = const()[val = tensor<int32, [4]>([0, 0, 0, 0])];
             tensor<fp16, [1, 8, 4, 16]> y = slice_by_index(x = x, begin = b);".into(), None, &[]),
        ("rank 6", wide("[1, 1, 1, 1, 1, 2]"), relu("[1, 1, 1, 1, 1, 2]"), Some("rank"), &[]),
        ("rank 5", wide("[1, 1, 1, 1, 2]"), relu("[1, 1, 1, 1, 2]"), None, &[]),
        ("width", wide("[1, 1, 1, 65537]"), relu("[1, 1, 1, 65537]"), Some("extent-65536"), &[]),
        ("width at the limit", wide("[1, 1, 1, 65536]"), relu("[1, 1, 1, 65536]"), None, &[]),
        ("height", wide("[1, 1, 65537, 1]"), relu("[1, 1, 65537, 1]"), Some("extent-65536"), &[]),
        ("channels", wide("[1, 65537, 1, 8]"), relu("[1, 65537, 1, 8]"), None, &["channels-65536-m4"]),
        ("batch", wide("[65537, 1, 1, 8]"), relu("[65537, 1, 1, 8]"), None, &[]),
        ("contraction of a product", "tensor<fp16, [1, 1, 70000, 4]> a, tensor<fp16, [1, 1, 70000, 4]> b".into(),
            "tensor<fp16, [1, 1, 4, 4]> y = matmul(x = a, y = b, transpose_x = bool(true));".into(),
            Some("extent-65536"), &[]),
        ("contraction of a convolution", x.clone(),
            "tensor<fp16, [1, 8, 4, 16]> y = conv(x = x, weight = tensor<fp16, [8, 7282, 3, 3]>(BLOBFILE(path = string(\"@model_path/w\"), offset = uint64(64))));".into(),
            Some("extent-65536"), &[]),
        ("no epsilon", x.clone(), op("rsqrt(x = x)"), Some("epsilon-missing"), &[]),
        ("epsilon", x.clone(), op("rsqrt(x = x, epsilon = fp16(0x1p-10))"), None, &[]),
        ("epsilon zero, said", x.clone(), op("rsqrt(x = x, epsilon = fp16(0x0p+0))"), None, &[]),
        ("epsilon too small", x.clone(), op("log(x = x, epsilon = fp32(0x1p-40))"), None, &["epsilon-too-small"]),
        ("infinite mask", x.clone(), op(&format!("add(x = x, y = {inf})")), None, &["infinite-mask"]),
        ("finite mask", x.clone(), op("add(x = x, y = tensor<fp16, [1]>([-40000.0]))"), None, &[]),
        ("argmax", x.clone(), op("reduce_argmax(x = x, axis = int32(-1))"), Some("argmax"), &[]),
        ("cast in a head", x.clone(),
            format!("{} {}", conv("int8", "[8, 1, 1, 1]").replace(" y = ", " l = "), op("cast(x = l)")),
            Some("head-topk-cast"), &[]),
        ("cast elsewhere", x.clone(), op("cast(x = x)"), None, &[]),
        ("topk elsewhere", x.clone(), op("topk(x = x)"), None, &["topk"]),
        ("slice_update", x.clone(), op("slice_update(x = x, update = x)"), None, &["slice-update-m4"]),
        ("int8, a scale a row", x.clone(), conv("int8", "[8, 1, 1, 1]"), None, &[]),
        ("int8, scales a block", x.clone(), conv("int8", "[8, 2, 1, 1]"), None, &["int8-per-block"]),
        ("int4, a scale a row", x.clone(), conv("int4", "[8, 1, 1, 1]"), None, &[]),
        ("int4, scales a block", x.clone(), conv("int4", "[8, 2, 1, 1]"), Some("int4-per-block"), &[]),
        ("the same with a state", with_state.clone(), conv("int4", "[8, 2, 1, 1]"), None,
            &["int4-per-block-stateful"]),
        ("state of 270", "state<tensor<fp16, [1, 2, 270, 64]>> kv, tensor<fp16, [1, 8, 4, 16]> x".into(),
            op("relu(x = x)"), Some("state-dims"), &[]),
        ("state of 40 channels", "state<tensor<fp16, [1, 2, 64, 40]>> kv, tensor<fp16, [1, 8, 4, 16]> x".into(),
            op("relu(x = x)"), Some("state-dims"), &[]),
        ("written state", with_state.clone(),
            "tensor<fp16, [1, 2, 64, 64]> y = read_state(input = kv); write_state(input = kv, data = y);".into(),
            None, &["kv-write-in-graph"]),
        ("state of 256", with_state, op("relu(x = x)"), None, &[]),
        ("flexible", "tensor<fp16, [1, 8, ?, 16]> x".into(), "tensor<fp16, [1, 8, ?, 16]> y = relu(x = x);".into(),
            None, &["flexible-shapes-m4"]),
        ("last axis 1", "tensor<fp16, [1, 8, 4, 1]> x".into(), conv("int8", "[8, 1, 1, 1]"), None, &["last-axis-1"]),
    ];
    for (name, inputs, body, hard, warnings) in table {
        let report = report(&inputs, &body);
        let last = report.ops.last().unwrap();
        assert_eq!(last.rule.as_deref(), hard, "{name}: {report}");
        assert_eq!(report.pass, hard.is_none(), "{name}");
        assert_eq!(last.device, if hard.is_some() { Device::Cpu } else { Device::Ane }, "{name}");
        assert_eq!(ids(&report, Kind::Warning), warnings, "{name}");
    }
}

#[test]
fn limits_of_whole_programs_are_met_at_the_limit_and_broken_beyond_it() {
    let relu = program(X, RELU);
    let long = format!("{} {RELU}", "tensor<fp16, [1, 8, 4, 16]> z = relu(x = x);".repeat(3200));
    let long = program(X, &long);
    let longer =
        program(X, &format!("{} {RELU}", "tensor<fp16, [1, 8, 4, 16]> z = relu(x = x);".repeat(3300)));
    let table: [(&str, &Program, u64, Chip, Os); 9] = [
        ("shard-bytes-26", &relu, (2 << 30) + 1, Chip::M1, Os::V26),
        ("shard-bytes-27", &relu, (1 << 30) + 1, Chip::M4, Os::V27),
        ("shard-bytes-1g", &relu, 1_000_000_001, Chip::M4, Os::V15),
        ("shard-bytes-250m", &relu, 250_000_001, Chip::A14, Os::V27),
        ("shard-bytes-small", &relu, 13_999_999, Chip::M4, Os::V26),
        ("shard-bytes-tiny", &relu, 999_999, Chip::M4, Os::V26),
        ("op-count", &longer, WEIGHTS, Chip::M4, Os::V26),
        ("op-count-unproven", &long, WEIGHTS, Chip::M4, Os::V26),
        ("op-count-unproven", &longer, WEIGHTS, Chip::M4, Os::V26),
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
    insta::assert_snapshot!("measured", plan(PLAN).unwrap().report("lm_head 0..50016").to_string());
}

/// A compute plan as a Mac might write it. The figures are made up.
const PLAN: &str = r#"{
    "chip": "Apple M4 Max", "os": "26.1", "os_build": "25B78",
    "ops": [
        {"function": "main", "name": "w", "kind": "const", "preferred_device": null, "supported_devices": []},
        {"function": "main", "name": "d", "kind": "ios18.constexpr_blockwise_shift_scale", "preferred_device": null, "supported_devices": []},
        {"function": "main", "name": "k", "kind": "ios18.read_state", "preferred_device": null, "supported_devices": []},
        {"function": "main", "name": "l", "kind": "ios18.conv", "preferred_device": "ane", "supported_devices": ["cpu", "gpu", "ane"]},
        {"function": "main", "name": "v", "kind": "ios18.topk", "preferred_device": "cpu", "supported_devices": ["cpu", "gpu"]},
        {"function": "main", "name": "s", "kind": "ios18.softmax", "preferred_device": "gpu", "supported_devices": ["cpu", "gpu", "ane"]},
        {"function": "main", "name": "c", "kind": "ios18.conv", "preferred_device": null, "supported_devices": []}
    ]}"#;

fn plan(json: &str) -> Result<ComputePlan, PlanError> {
    ComputePlan::from_json(json.as_bytes())
}

#[test]
fn a_compute_plan_becomes_a_measured_report() {
    let report = plan(PLAN).unwrap().report("lm_head 0..50016");
    assert_eq!(report.source, Source::Measured);
    assert_eq!((report.target.chip.as_str(), report.target.os.as_str()), ("Apple M4 Max", "26.1 (25B78)"));
    // Constants and a state without a processor do not count; a convolution without one does.
    assert_eq!((report.compute_total, report.compute_ane, report.conv_total, report.conv_ane), (4, 1, 2, 1));
    assert_eq!(report.ops.last().map(|op| op.device), Some(Device::None));
    assert!(
        !report.pass && report.reason.as_ref().is_some_and(|reason| reason.starts_with("measured: 3 of 4"))
    );
    let good = plan(
        &PLAN
            .replace("\"preferred_device\": \"cpu\"", "\"preferred_device\": \"ane\"")
            .replace("\"gpu\", \"supp", "\"ane\", \"supp")
            .replace(
                "\"c\", \"kind\": \"ios18.conv\", \"preferred_device\": null",
                "\"c\", \"kind\": \"conv\", \"preferred_device\": \"ane\"",
            ),
    );
    let good = good.unwrap().report("lm_head");
    assert!(good.pass && good.reason.is_none(), "{good}");
}

#[test]
fn what_is_no_compute_plan_is_refused() {
    assert!(matches!(plan("{"), Err(PlanError::Json(_))));
    assert!(matches!(plan("[]"), Err(PlanError::Json(_))));
    assert!(matches!(plan(&PLAN.replace("os_build", "build")), Err(PlanError::Json(_))));
    assert!(matches!(plan(&PLAN.replace("\"gpu\"", "\"tpu\"")), Err(PlanError::Json(_))));
    let constants = r#"{"chip": "c", "os": "26", "os_build": "b", "ops": [
        {"function": "main", "name": "w", "kind": "const", "preferred_device": null, "supported_devices": []}]}"#;
    let error = plan(constants).unwrap_err();
    assert!(matches!(error, PlanError::Empty { ops: 1 }), "{error}");
}

#[test]
fn a_prediction_is_held_to_a_record() {
    let record = CalibrationRecord::new("0123".to_owned(), plan(PLAN).unwrap());
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<CalibrationRecord>(&json).unwrap(), record);
    let body = format!(
        "{} tensor<fp16, [1, 1, 4, 16]> v = cumsum(x = l); tensor<fp16, [1, 8, 4, 16]> s = softmax(x = l);
         tensor<fp16, [1, 8, 4, 16]> c = tan(x = l); tensor<fp16, [1, 8, 4, 16]> y = relu(x = s);",
        conv("int8", "[8, 1, 1, 1]").replace(" y = ", " l = ")
    );
    let predicted = report(X, &body);
    let measured = record.report("layers 0..1");
    let result = diff(&predicted, &measured);
    assert_eq!((result.both_on, result.found, result.only_predicted, result.only_measured), (1, 2, 1, 0));
    let [missed] = result.missed.as_slice() else { panic!("{result:?}") };
    assert_eq!((missed.name.as_str(), missed.predicted, missed.measured), ("s", Device::Ane, Device::Gpu));
    assert!(result.false_alarms.is_empty());
    assert_eq!((result.precision(), result.recall()), (Some(1.0), Some(2.0 / 3.0)));
    let same = diff(&measured, &measured);
    assert_eq!((same.precision(), same.recall(), same.missed.len()), (Some(1.0), Some(1.0), 0));
    let nothing = diff(&report(X, RELU), &report(X, RELU));
    assert_eq!((nothing.precision(), nothing.recall(), nothing.both_on), (None, None, 1));
}
