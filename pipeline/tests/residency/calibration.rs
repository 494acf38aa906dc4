//! Predictions held to published placements.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anepipe_pipeline::gates::residency::{Subject, Target, predict, rules};

use crate::placements::{Outcome, Placements};
use crate::python::worker;

const PLACEMENTS: &str = include_str!("placements.toml");
/// Where files of `anepipe gate residency --vs-predicted` go that placements name.
const RECORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/residency/records");
const BOOK: &str = include_str!("../../../docs/residency.md");

/// The table of docs/residency.md. A miss must be explained where it stands, and only a miss.
#[test]
fn predictions_agree_with_published_placements() {
    let all: Placements = toml::from_str(PLACEMENTS).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker();
    let mut table =
        "| program | published | predicted | operations | weights | rules broken | basis of |\n".to_owned();
    table.push_str("|---|---|---|---|---|---|---|\n");
    let mut right = 0;
    let (mut found, mut predicted_off, mut really_off) = (0_u32, 0_u32, 0_u32);
    let (mut untouched, mut untouched_right, mut untouched_off) = (0, 0, 0);
    let mut misses = String::new();
    let mut programs = BTreeMap::new();
    for placement in &all.placements {
        let program = programs
            .entry(format!("{:?}", placement.build))
            .or_insert_with(|| placement.build.program(&mut worker, folder.path()));
        let subject = Subject { name: &placement.name, program, weight_bytes: None };
        let report = predict(&subject, Target::default()).unwrap();
        let predicted = Outcome::of(&report);
        let outcome = placement.outcome(Path::new(RECORDS));
        let agrees = outcome.agrees(&report);
        assert_eq!(
            agrees,
            placement.miss.is_none(),
            "{} is explained as a miss, or must be: {report}",
            placement.name
        );
        right += usize::from(agrees);
        let is_off = outcome.is_off();
        if let Some(is_off) = is_off {
            let off = predicted != Outcome::Resident;
            found += u32::from(off && is_off);
            predicted_off += u32::from(off);
            really_off += u32::from(is_off);
        }
        if let Some(rule) = &placement.basis {
            assert!(rules().unwrap().rules.iter().any(|known| known.id == *rule), "{rule}");
        } else {
            untouched += 1;
            untouched_right += usize::from(agrees);
            untouched_off += usize::from(is_off == Some(true));
        }
        let rules: Vec<&str> = report.violations.iter().map(|hit| hit.rule.as_str()).collect();
        let bytes: u64 = program.summary().weights.values().map(|weights| weights.bytes).sum();
        writeln!(
            table,
            "| {} | {} ({}) | {}{} | {} | {:.2} MB | {} | {} |",
            placement.name,
            placement.published,
            placement.source,
            if agrees { "" } else { "**miss**: " },
            predicted.in_words(),
            report.compute_total,
            bytes as f64 / 1e6,
            if rules.is_empty() { "–".to_owned() } else { rules.join(", ") },
            placement.basis.as_deref().unwrap_or("–"),
        )
        .unwrap();
        if let Some(miss) = &placement.miss {
            writeln!(misses, "- {}: {miss}", placement.name).unwrap();
        }
    }
    let total = all.placements.len();
    writeln!(
        table,
        "\n{right} of {total} outcomes predicted. Where the placement is published: of {predicted_off} programs \
         predicted off the Neural Engine {found} are (precision {:.2}); of {really_off} that are, {found} were \
         predicted (recall {:.2}). {} outcomes are the basis of a rule, which then cannot but be right; of the \
         other {untouched}, {untouched_off} of them off the Neural Engine, {untouched_right} were predicted.",
        f64::from(found) / f64::from(predicted_off),
        f64::from(found) / f64::from(really_off),
        total - untouched,
    )
    .unwrap();
    if !misses.is_empty() {
        write!(table, "\nMisses:\n\n{misses}").unwrap();
    }
    insta::assert_snapshot!("calibration", table);
    assert!(BOOK.contains(&table), "docs/residency.md must have this table:\n{table}");
    assert!(right >= 15, "{right} of {total}");
}
