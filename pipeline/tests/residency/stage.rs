//! The stage on files: a compiled model predicted, and a measurement asked of a machine that cannot give one.

use std::path::Path;

use anepipe_mil::compile::{CompileOptions, compile};
use anepipe_pipeline::gates::residency::{Source, Target};
use anepipe_pipeline::stages::residency::{
    Require, ResidencyError, ResidencyTask, measure, program_digest, run,
};

use crate::python::worker;

fn task() -> ResidencyTask {
    ResidencyTask { name: "stateful".to_owned(), target: Target::default() }
}

#[test]
fn a_compiled_model_is_predicted_by_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mil/tests/fixtures/stateful/model.mlmodel");
    let model = folder.path().join("stateful.mlmodelc");
    compile(package, &model, &CompileOptions::default()).unwrap();
    let report = run(&model, &task()).unwrap();
    assert_eq!(report.source, Source::Predicted);
    // A few bytes of weights, a state of [1, 4].
    let rules: Vec<&str> = report.violations.iter().map(|hit| hit.rule.as_str()).collect();
    assert_eq!(rules, ["shard-bytes-tiny", "state-dims"], "{report}");
    assert!(Require::Any.check(&report).is_ok());
    let error = Require::Measured.check(&report).unwrap_err();
    assert!(
        matches!(error, ResidencyError::NotMeasured { .. }) && error.to_string().contains("on a Mac"),
        "{error}"
    );
    let digest = program_digest(&model).unwrap();
    assert_eq!((digest.len(), program_digest(&model).unwrap()), (64, digest));

    std::fs::write(model.join("model.mil"), "program(1.3)").unwrap();
    let error = run(&model, &task()).unwrap_err();
    assert!(matches!(error, ResidencyError::Model { .. }), "{error}");
    assert!(error.to_string().starts_with("residency gate on stateful: "), "{error}");
}

#[test]
fn a_machine_without_core_ml_says_so_and_keeps_its_worker() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("shard.mlmodelc");
    let mut worker = worker();
    for _ in 0..2 {
        let error = measure(&mut worker, &model).unwrap_err();
        let ResidencyError::NoComputePlan { reason, .. } = &error else { panic!("{error:?}") };
        assert_eq!(reason, "compute plans come from Core ML, and this is Linux");
        assert!(error.to_string().contains("run this on a Mac"), "{error}");
    }
    let error = measure(&mut worker, Path::new("shard.mlpackage")).unwrap_err();
    assert!(
        matches!(error, ResidencyError::Python(_)) && error.to_string().contains("must be a .mlmodelc"),
        "{error}"
    );
    assert!(worker.is_usable());
}

#[test]
fn requirements_read_as_they_are_written() {
    for require in [Require::Any, Require::Measured] {
        assert_eq!(require.to_string().parse(), Ok(require));
        assert_eq!(serde_json::to_value(require).unwrap(), require.to_string());
    }
    assert!("predicted".parse::<Require>().unwrap_err().to_string().contains("give any or measured"));
}
