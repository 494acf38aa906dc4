//! Predictions held to published placements.

use std::fmt::Write as _;

use anepipe_pipeline::gates::residency::{Subject, Target, predict};

use crate::placements::{Outcome, Placements};
use crate::python::worker;

const PLACEMENTS: &str = include_str!("placements.toml");

/// The table of docs/residency.md. A miss must be explained where it stands, and only a miss.
#[test]
fn predictions_agree_with_published_placements() {
    let all: Placements = toml::from_str(PLACEMENTS).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker();
    let mut table = String::from(
        "| program | published | predicted | operations | weights | decided by |\n|---|---|---|---|---|---|\n",
    );
    let mut right = 0;
    let (mut found, mut predicted_off, mut really_off) = (0_u32, 0_u32, 0_u32);
    let mut misses = String::new();
    for placement in &all.placements {
        let program = placement.build.program(&mut worker, folder.path());
        let subject = Subject { name: &placement.name, program: &program, weight_bytes: None };
        let report = predict(&subject, Target::default()).unwrap();
        let predicted = Outcome::of(&report);
        let agrees = placement.outcome.agrees(&predicted);
        assert_eq!(
            agrees,
            placement.miss.is_none(),
            "{} is explained as a miss, or must be: {report}",
            placement.name
        );
        let (off, is_off) = (predicted != Outcome::Resident, placement.outcome != Outcome::Resident);
        right += usize::from(agrees);
        found += u32::from(off && is_off);
        predicted_off += u32::from(off);
        really_off += u32::from(is_off);
        let rules: Vec<&str> = report.violations.iter().map(|hit| hit.rule.as_str()).collect();
        let bytes: u64 = program.summary().weights.values().map(|weights| weights.bytes).sum();
        writeln!(
            table,
            "| {} | {} ({}) | {}{} | {} | {:.2} MB | {} |",
            placement.name,
            placement.published,
            placement.source,
            if agrees { "" } else { "**miss**: " },
            predicted.in_words(),
            report.compute_total,
            bytes as f64 / 1e6,
            if rules.is_empty() { "–".to_owned() } else { rules.join(", ") },
        )
        .unwrap();
        if let Some(miss) = &placement.miss {
            writeln!(misses, "- {}: {miss}", placement.name).unwrap();
        }
    }
    let total = all.placements.len();
    writeln!(
        table,
        "\n{right} of {total} outcomes predicted. Of {predicted_off} programs predicted off the Neural Engine {found} are \
         (precision {:.2}); of {really_off} that are, {found} were predicted (recall {:.2}).",
        f64::from(found) / f64::from(predicted_off),
        f64::from(found) / f64::from(really_off),
    )
    .unwrap();
    if !misses.is_empty() {
        write!(table, "\nMisses:\n\n{misses}").unwrap();
    }
    insta::assert_snapshot!("calibration", table);
    assert!(right >= 15, "{right} of {total}");
}
