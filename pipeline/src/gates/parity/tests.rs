//! The gate against shards that are right, and against shards that are broken in one known way each.

use anepipe_runtime::device::Shard;
use half::f16;

use super::input::Noise;
use super::reference::{Bug, D, Reference, rope, take_passes};
use super::{
    Case, Failure, Invariance, ParityCheck, ParityError, ParityReport, ParityThresholds, Program, Subject,
    check,
};

/// Four embeddings as loud as real ones.
fn embeddings() -> Vec<Vec<f16>> {
    let mut noise = Noise::new("embeddings");
    (0..4).map(|_| (0..D).map(|_| f16::from_f32((noise.normal() * 0.03) as f32)).collect()).collect()
}

fn program(shard: &Reference) -> Program<'_> {
    Program { shard, function: 0 }
}

fn gate(
    device: &str,
    shard: &Reference,
    narrow: Option<&Reference>,
    tokens: &[Vec<f16>],
    thresholds: ParityThresholds,
) -> Result<ParityReport, ParityError> {
    gate_by(false, device, shard, narrow, tokens, thresholds)
}

fn gate_by(
    at_once: bool,
    device: &str,
    shard: &Reference,
    narrow: Option<&Reference>,
    tokens: &[Vec<f16>],
    thresholds: ParityThresholds,
) -> Result<ParityReport, ParityError> {
    let rope = rope();
    let head = shard.functions()[0].signature.states.is_empty();
    let subject = Subject {
        name: if head { "lm_head 0..50" } else { "layers 0..1" },
        device,
        wide: program(shard),
        narrow: narrow.map(program),
        rope: Some(&rope),
        at_once,
    };
    check(&subject, &tokens.iter().map(Vec::as_slice).collect::<Vec<_>>(), &thresholds)
}

/// One layer, 4 slots, with the same layer as a program of one slot beside it. `OtherWeights` is a bug of the pair.
fn report(device: &str, bug: Bug) -> ParityReport {
    let narrow = Reference::layers(1, 1, if bug == Bug::OtherWeights { Bug::None } else { bug });
    let shard = Reference::layers(1, 4, bug);
    gate(device, &shard, Some(&narrow), &embeddings(), ParityThresholds::default()).unwrap()
}

fn failing(report: &ParityReport, input: &str) -> Vec<Case> {
    let checks = report.checks.iter().filter(|check| check.input == input && !check.pass);
    checks.map(|check| check.case).collect()
}

fn find<'a>(report: &'a ParityReport, case: Case, input: &str) -> &'a ParityCheck {
    report.checks.iter().find(|check| check.case == case && check.input == input).unwrap()
}

const INPUTS: [&str; 4] =
    ["token embeddings", "random, rms 0.02", "random, rms 1", "random, rms 1, up to the end of the context"];

#[test]
fn each_bug_fails_its_own_invariance_on_every_input_and_no_other() {
    use Case::{Block, Drafts, Narrow, Poison, Rejected};
    let table: [(Bug, &[Case]); 10] = [
        (Bug::None, &[]),
        (Bug::NoPermute, &[Block, Drafts, Narrow]),
        (Bug::RopeOfFirstSlot, &[Block]),
        (Bug::SlotAccumulator, &[Block]),
        (Bug::NormAcrossSlots, &[Block, Drafts]),
        (Bug::CacheNotCleared, &[Rejected, Poison]),
        (Bug::MaskIgnored, &[Block, Drafts, Rejected, Poison]),
        (Bug::MaskWeak, &[Block, Drafts, Rejected, Poison]),
        (Bug::OtherWeights, &[Narrow]),
        (Bug::NanInLastSlot, &[Block, Drafts, Rejected, Poison, Narrow]),
    ];
    for (bug, cases) in table {
        let report = report("portable", bug);
        for input in INPUTS {
            assert_eq!(failing(&report, input), cases, "{bug:?} on {input}\n{report}");
        }
        assert_eq!(report.pass, cases.is_empty(), "{bug:?}");
    }
}

#[test]
fn a_correct_shard_is_exact_to_the_bit_in_every_case() {
    for layers in [1, 3] {
        let (shard, narrow) =
            (Reference::layers(layers, 4, Bug::None), Reference::layers(layers, 1, Bug::None));
        let report =
            gate("portable", &shard, Some(&narrow), &embeddings(), ParityThresholds::default()).unwrap();
        assert_eq!(report.checks.len(), 20);
        for check in &report.checks {
            assert!(check.bit_exact && check.pass && check.thresholds.bit_exact, "{report}");
            assert_eq!((check.rmse, check.max_abs), (Some(0.0), Some(0.0)));
            assert!(
                check.per_token_cos.iter().chain(&check.update_per_token_cos).all(|&cos| cos == Some(1.0))
            );
            assert_eq!((check.per_token_cos.len(), check.update_per_token_cos.len()), (10, 10));
        }
    }
}

#[test]
fn where_sums_have_no_fixed_order_bits_may_differ_and_bugs_still_fail() {
    let report_of = |bug| report("coreml", bug);
    let order = report_of(Bug::SlotAccumulator);
    assert!(order.pass && order.checks.iter().any(|check| !check.bit_exact), "{order}");
    // The two sides of the default thresholds, as the book quotes them.
    let worst =
        |check: &ParityCheck| check.update_per_token_cos.iter().flatten().copied().fold(1.0, f64::min);
    assert!(order.checks.iter().all(|check| worst(check) > 0.999_99), "{order}");
    let mixed = report_of(Bug::NoPermute);
    assert!(mixed.checks.iter().all(|check| check.pass || worst(check) < 0.89), "{mixed}");
    // A mask that only loud keys get through: without bits to compare, only the poison shows it.
    for input in INPUTS {
        assert_eq!(failing(&report_of(Bug::MaskWeak), input), [Case::Poison]);
    }
    let others = [
        Bug::NoPermute,
        Bug::RopeOfFirstSlot,
        Bug::NormAcrossSlots,
        Bug::CacheNotCleared,
        Bug::MaskIgnored,
        Bug::OtherWeights,
        Bug::NanInLastSlot,
    ];
    for bug in others {
        assert!(!report_of(bug).pass, "{bug:?}");
    }
}

/// The figures that `docs/gates.md` quotes.
#[test]
fn the_residual_hides_mixed_positions_in_the_hidden_state_and_not_in_the_update() {
    let report = report("coreml", Bug::NoPermute);
    let thousandths = |cosines: &[Option<f64>]| -> Vec<f64> {
        cosines.iter().map(|cosine| (cosine.unwrap() * 1000.0).round() / 1000.0).collect()
    };
    // The last pass has a token in each of the four slots.
    let figures = |input| {
        let check = find(&report, Case::Block, input);
        let all = (check.seq_vs_block_cos.unwrap() * 1000.0).round() / 1000.0;
        (all, thousandths(&check.per_token_cos[6..]), thousandths(&check.update_per_token_cos[6..]))
    };
    assert_eq!(
        figures("random, rms 1"),
        (0.905, vec![0.955, 0.738, 0.923, 0.900], vec![0.768, -0.116, 0.453, 0.332])
    );
    assert_eq!(
        figures("random, rms 0.02"),
        (0.410, vec![0.480, 0.214, 0.109, -0.049], vec![0.491, 0.209, 0.101, -0.070])
    );
    assert_eq!(
        figures("random, rms 1, up to the end of the context"),
        (0.967, vec![0.980, 0.969, 0.954, 0.965], vec![0.705, 0.675, 0.465, 0.606])
    );
}

/// Copies of one token in the unused slots could hide the mix-up, since mixing equal things changes little. They do not: alone a
/// token is read from slot 0, in a block from its own, and the reshape takes other channels for other slots.
#[test]
fn mixed_positions_are_seen_even_when_every_token_of_a_block_is_the_same() {
    let shard = Reference::layers(1, 4, Bug::NoPermute);
    let one = &embeddings()[..1];
    let report = gate("portable", &shard, None, one, ParityThresholds::default()).unwrap();
    let check = find(&report, Case::Block, "token embeddings");
    let beyond_the_first_slot: Vec<usize> = (0..10).filter(|&token| check.slots[token] > 0).collect();
    assert_eq!(check.failing_tokens, beyond_the_first_slot, "{report}");
}

#[test]
fn a_nan_fails_by_its_own_name_and_is_null_in_json() {
    let report = report("coreml", Bug::NanInLastSlot);
    let check = find(&report, Case::Block, "random, rms 1");
    assert_eq!(check.failures, [Failure::NotFinite { token: 9 }]);
    assert_eq!((check.per_token_cos[9], check.update_per_token_cos[9]), (None, None));
    assert_eq!((check.seq_vs_block_cos, check.rmse, check.max_abs), (None, None, None));
    let json = serde_json::to_value(check).unwrap();
    assert!(json["per_token_cos"][9].is_null() && json["rmse"].is_null());
    assert_eq!(serde_json::from_value::<ParityCheck>(json).unwrap(), *check);
}

#[test]
fn a_head_has_slots_and_width_and_nothing_stale() {
    let run = |bug| {
        let narrow = Reference::head(1, if bug == Bug::OtherWeights { Bug::None } else { bug });
        let head = Reference::head(4, bug);
        gate("portable", &head, Some(&narrow), &embeddings(), ParityThresholds::default()).unwrap()
    };
    let report = run(Bug::None);
    assert!(report.pass, "{report}");
    assert_eq!(report.context, None);
    assert_eq!(report.not_run.len(), 1);
    assert_eq!(report.not_run[0].invariance, Invariance::Stale);
    let cases: Vec<Case> = report.checks.iter().map(|check| check.case).collect();
    assert_eq!(
        cases,
        [Case::Block, Case::Drafts, Case::Narrow].repeat(3),
        "three inputs: a head has no context to end"
    );
    assert!(report.checks.iter().all(|check| check.update_per_token_cos.is_empty()));
    assert_eq!(failing(&run(Bug::SlotAccumulator), "random, rms 1"), [Case::Block]);
    assert_eq!(failing(&run(Bug::OtherWeights), "random, rms 1"), [Case::Narrow]);
}

#[test]
fn what_was_not_looked_at_is_said() {
    let lone = gate(
        "portable",
        &Reference::layers(1, 1, Bug::None),
        None,
        &embeddings(),
        ParityThresholds::default(),
    );
    let lone = lone.unwrap();
    let not_run: Vec<Invariance> = lone.not_run.iter().map(|not_run| not_run.invariance).collect();
    assert_eq!(not_run, [Invariance::Slot, Invariance::Width]);
    assert_eq!(failing(&lone, INPUTS[0]), []);
    let bug = Reference::layers(1, 1, Bug::CacheNotCleared);
    let bug = gate("portable", &bug, None, &embeddings(), ParityThresholds::default()).unwrap();
    assert_eq!(failing(&bug, INPUTS[0]), [Case::Rejected, Case::Poison]);
}

#[test]
fn blocks_of_any_width_are_gated_even_when_the_plan_is_longer_than_the_context() {
    for block in [2, 3, 8] {
        let shard = Reference::layers(1, block, Bug::None);
        let report = gate("portable", &shard, None, &embeddings(), ParityThresholds::default()).unwrap();
        assert!(report.pass, "{report}");
        let shard = Reference::layers(1, block, Bug::NoPermute);
        assert!(!gate("coreml", &shard, None, &embeddings(), ParityThresholds::default()).unwrap().pass);
    }
}

#[test]
fn zero_embeddings_are_an_input_like_any_other() {
    let zeros = vec![vec![f16::ZERO; D]; 4];
    let report =
        gate("portable", &Reference::layers(1, 4, Bug::None), None, &zeros, ParityThresholds::default());
    let report = report.unwrap();
    assert!(report.pass, "{report}");
    assert_eq!(find(&report, Case::Block, INPUTS[0]).per_token_cos[0], Some(1.0));
}

#[test]
fn thresholds_decide_and_are_recorded() {
    let shard = Reference::layers(1, 4, Bug::SlotAccumulator);
    let run = |device, thresholds| gate(device, &shard, None, &embeddings(), thresholds).unwrap();
    let lax = ParityThresholds { bit_exact: Some(false), ..ParityThresholds::default() };
    let exact = ParityThresholds { bit_exact: Some(true), ..ParityThresholds::default() };
    let tight = ParityThresholds { update_per_token_cos: 0.999_999_9, ..lax };
    let never = ParityThresholds { per_token_cos: f64::NAN, ..lax };
    assert!(run("portable", lax).pass);
    assert!(!run("coreml", exact).pass);
    assert!(!run("coreml", never).pass);
    let report = run("portable", tight);
    let check = find(&report, Case::Block, "random, rms 1");
    assert_eq!(check.thresholds, tight.limits("portable"));
    assert!(check.failures.iter().all(|failure| matches!(failure, Failure::UpdateCosine { .. })));
    assert!(!check.pass);
}

#[test]
fn thresholds_are_read_from_toml_shaped_tables_and_misspellings_are_refused() {
    let read = |json: &str| serde_json::from_str::<ParityThresholds>(json);
    assert_eq!(read("{}").unwrap(), ParityThresholds::default());
    assert_eq!(read(r#"{"bit_exact": false}"#).unwrap().bit_exact, Some(false));
    assert!(read(r#"{"per_token_cosine": 0.9}"#).unwrap_err().to_string().contains("per_token_cosine"));
}

#[test]
fn the_gate_refuses_what_it_cannot_run() {
    let (four, one) = (Reference::layers(1, 4, Bug::None), Reference::head(1, Bug::None));
    let message = |result: Result<ParityReport, ParityError>| result.unwrap_err().to_string();
    let thresholds = ParityThresholds::default();
    let table = [
        (message(gate("portable", &four, None, &[], thresholds)), "no token embeddings to feed"),
        (
            message(gate("portable", &four, None, &[vec![f16::ONE; 3]], thresholds)),
            "hidden state 0 has 3 elements, the shard takes 64",
        ),
        (message(gate("portable", &four, Some(&one), &embeddings(), thresholds)), "different interfaces"),
    ];
    for (message, text) in table {
        assert!(message.starts_with("parity gate on layers 0..1: ") && message.contains(text), "{message}");
    }
    let (name, device, wide) = ("layers 0..1", "portable", program(&four));
    let bare = Subject { name, device, wide, narrow: None, rope: None, at_once: false };
    let tokens = embeddings();
    let error = check(&bare, &[tokens[0].as_slice()], &thresholds).unwrap_err().to_string();
    assert!(error.contains("no rotary embedding"), "{error}");
}

#[test]
fn inputs_that_run_at_once_give_the_same_report() {
    for bug in [Bug::None, Bug::NoPermute, Bug::MaskWeak] {
        let (shard, narrow) = (Reference::layers(1, 4, bug), Reference::layers(1, 1, bug));
        let [one, all] = [false, true].map(|at_once| {
            let thresholds = ParityThresholds::default();
            gate_by(at_once, "portable", &shard, Some(&narrow), &embeddings(), thresholds).unwrap()
        });
        assert_eq!(one, all, "{bug:?}");
    }
}

/// The cost of the gate, which every build pays for every shard.
#[test]
fn four_inputs_take_28_passes_each() {
    take_passes();
    let shard = Reference::layers(1, 4, Bug::None);
    gate("portable", &shard, None, &embeddings(), ParityThresholds::default()).unwrap();
    assert_eq!(take_passes(), 4 * 28);
}

#[test]
fn a_failed_report_reads_as_a_table_and_names_the_tokens() {
    let report = gate(
        "portable",
        &Reference::layers(1, 4, Bug::NoPermute),
        None,
        &embeddings(),
        ParityThresholds { bit_exact: Some(false), ..ParityThresholds::default() },
    )
    .unwrap();
    insta::assert_snapshot!("failed", format!("{report}\n{}", report.summary()));
}

#[test]
fn a_passed_report_is_short_and_has_these_fields() {
    let report =
        gate("portable", &Reference::head(2, Bug::None), None, &embeddings(), ParityThresholds::default())
            .unwrap();
    insta::assert_snapshot!("passed", format!("{report}\n{}", report.summary()));
    let first = ParityReport { checks: report.checks[..1].to_vec(), ..report.clone() };
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&first).unwrap());
}
