//! The verdict, from generations made by hand; whole models are decoded by the tests of the command.

use std::time::Duration;

use anepipe_runtime::decode::{End, Generated, Statistics};

use super::report::Tally;
use super::*;

fn generated(tokens: &[TokenId], passes: usize, accepted: usize) -> Generated {
    let statistics = Statistics {
        passes,
        accepted,
        proposed: 2 * accepted,
        decode: Duration::from_millis(1),
        ..Statistics::default()
    };
    Generated { tokens: tokens.to_vec(), end: End::MaxNew, statistics }
}

fn prompt(id: &str, class: &str) -> Tokens {
    Tokens { id: id.to_owned(), class: class.to_owned(), ids: vec![1] }
}

#[test]
fn equal_tokens_pass_and_figures_are_of_all_prompts() {
    let mut tally = Tally::new(4);
    let plain = generated(&[1, 2, 3, 4], 3, 0);
    for (id, class) in [("a", "code"), ("b", "prose")] {
        tally.add(&prompt(id, class), Case::Ngram, &plain, &generated(&[1, 2, 3, 4], 2, 1));
        tally.add(&prompt(id, class), Case::Wrong, &plain, &generated(&[1, 2, 3, 4], 3, 0));
    }
    let report = tally.report("portable");
    assert!(report.pass && report.reason.is_none(), "{report:?}");
    assert_eq!((report.prompts, report.equal, report.tokens_per_pass), (2, 2, Some(1.5)));
    let cases: Vec<_> = report.cases.iter().map(|case| (case.case, case.equal, case.tokens)).collect();
    assert_eq!(cases, [(Case::Ngram, 2, 8), (Case::Wrong, 2, 8)]);
    insta::assert_snapshot!(report);
}

#[test]
fn one_different_token_fails_and_is_named() {
    let plain = generated(&[1, 2, 3, 4], 3, 0);
    for (found, token, speculative) in
        [(&[1, 2, 9, 4][..], 2, Some(9)), (&[1, 2, 3], 3, None), (&[1, 2, 3, 4, 5], 4, Some(5))]
    {
        let mut tally = Tally::new(4);
        tally.add(&prompt("a", "code"), Case::Ngram, &plain, &plain);
        tally.add(&prompt("b", "code"), Case::Ngram, &plain, &plain);
        tally.add(&prompt("b", "code"), Case::Foretold, &plain, &generated(found, 3, 0));
        let report = tally.report("portable");
        assert!(!report.pass);
        assert_eq!((report.prompts, report.equal), (2, 1));
        let divergence = report.first_divergence.clone().expect("a divergence");
        assert_eq!((divergence.prompt.as_str(), divergence.case), ("b", Case::Foretold));
        assert_eq!((divergence.token, divergence.speculative), (token, speculative));
        assert!(report.reason.expect("a reason").contains("1 of 2 prompts differ"));
    }
}

#[test]
fn a_text_that_ends_for_another_reason_is_another_text() {
    let mut tally = Tally::new(4);
    let plain = generated(&[1, 2], 1, 0);
    let ended = Generated { end: End::ContextFull, ..plain.clone() };
    tally.add(&prompt("a", "code"), Case::Ngram, &plain, &ended);
    let report = tally.report("portable");
    assert!(!report.pass && report.first_divergence.expect("a divergence").token == 2);
}

#[test]
fn prompts_leave_half_of_the_context() {
    assert_eq!(fitting(&[1, 2, 3], 64), [1, 2, 3]);
    assert_eq!(fitting(&[1, 2, 3, 4], 4), [3, 4]);
    assert_eq!(fitting(&[1, 2], 1), [2]);
}
