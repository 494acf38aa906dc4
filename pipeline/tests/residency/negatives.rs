//! Graphs that must fail, each for its own reason and no other.

use anepipe_pipeline::gates::residency::{Subject, Target, predict};
use anepipe_pipeline::stages::graph::{GraphSpec, LayersSpec};

use crate::kit::{self, Decoder, Weights};
use crate::placements::built;
use crate::python::{phi4_mini, worker};

#[test]
fn graphs_that_must_fail_do_so_for_their_own_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker();
    // Small enough that 33 layers stay below every limit of bytes, and with 8 KV heads, so that only their number is too much.
    let narrow = LayersSpec { hidden: 1024, heads: 8, ffn: 2048, ..phi4_mini() };
    let many = GraphSpec::Layers(LayersSpec { layers: 33, context: 256, ..narrow });
    let uneven = GraphSpec::Layers(LayersSpec { context: 270, ..phi4_mini() });
    let int4 = Decoder {
        layers: 2,
        hidden: 2048,
        heads: 16,
        kv_heads: 2,
        head_dim: 128,
        ffn: 11008,
        context: 512,
        weights: Weights::Int4PerBlock,
        states: false,
        vocab: None,
        layer_ops: None,
    };
    let shows = [
        ("head with top-k", kit::head_with_topk(3072, 50016), "head-topk-cast", 2, "topk in an LM head"),
        ("int4 per block", int4.program(), "int4-per-block", usize::MAX, "the weight of conv"),
        (
            "33 layers",
            built(&mut worker, &many, folder.path()),
            "op-count",
            usize::MAX,
            "4094 in one function",
        ),
        ("S = 270", built(&mut worker, &uneven, folder.path()), "state-dims", usize::MAX, "270 in k_state_0"),
    ];
    let mut text = String::new();
    for (name, program, rule, off, what) in shows {
        let report =
            predict(&Subject { name, program: &program, weight_bytes: None }, Target::default()).unwrap();
        let rules: Vec<&str> = report
            .violations
            .iter()
            .map(|hit| hit.rule.as_str())
            // A head's indices are int32 before they are cast: the same operations, a second reason.
            .filter(|&found| !(rule == "head-topk-cast" && found == "dtype"))
            .collect();
        assert_eq!(rules, [rule], "{report}");
        assert!(!report.pass && report.compute_non_ane == off.min(report.compute_total), "{report}");
        assert!(report.violations[0].found.contains(what), "{report}");
        let deciding = report.ops.iter().filter_map(|op| op.rule.as_deref());
        assert!(deciding.clone().count() > 0 && deciding.clone().all(|found| found == rule), "{report}");
        text.push_str(&report.to_string());
        text.push('\n');
    }
    insta::assert_snapshot!("negatives", text);
}
