//! Compute plans read, reported, and predictions held to them.

use super::tests::{RELU, X, conv, report};
use super::{CalibrationRecord, ComputePlan, Device, PlanError, Source, diff};

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
    insta::assert_snapshot!("measured", report.to_string());
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
