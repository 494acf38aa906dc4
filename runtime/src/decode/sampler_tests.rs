use proptest::prelude::*;

use super::*;
use crate::decode::{Choose, argmax};

fn halves(logits: &[f32]) -> Vec<f16> {
    logits.iter().map(|&logit| f16::from_f32(logit)).collect()
}

/// What is drawn over many positions, by token.
fn counts(logits: &[f32], sampling: Sampling) -> Vec<usize> {
    let mut sampler = Sampler::new(&sampling).expect("good options");
    let logits = halves(logits);
    let mut counts = vec![0; logits.len()];
    for position in 0..20_000 {
        counts[sampler.token(&logits, position).expect("a token") as usize] += 1;
    }
    counts
}

const PLAIN: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 7 };

/// Logits of tokens with probabilities 0.1, 0.4, 0.2 and 0.3.
fn tenths() -> [f32; 4] {
    [0.1_f32, 0.4, 0.2, 0.3].map(f32::ln)
}

#[test]
fn tokens_are_drawn_as_often_as_they_are_probable() {
    for (temperature, expected) in [
        (1.0, [0.1, 0.4, 0.2, 0.3]),
        // Squares of the probabilities over their sum 0.3.
        (0.5, [0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3]),
    ] {
        let counts = counts(&tenths(), Sampling { temperature, ..PLAIN });
        for (count, expected) in counts.iter().zip(expected) {
            let share = *count as f64 / 20_000.0;
            // Five standard deviations of a share of 20 thousand draws.
            assert!((share - expected).abs() < 0.018, "{counts:?} at {temperature}");
        }
    }
}

/// Each row: options, and the tokens that can still be drawn.
#[test]
fn filters_let_through_what_they_say_in_their_order() {
    let table: [(Sampling, &[usize]); 11] = [
        (PLAIN, &[0, 1, 2, 3]),
        (Sampling { top_k: 1, ..PLAIN }, &[1]),
        (Sampling { top_k: 3, ..PLAIN }, &[1, 2, 3]),
        (Sampling { top_k: 9, ..PLAIN }, &[0, 1, 2, 3]),
        (Sampling { top_p: 0.01, ..PLAIN }, &[1]),
        (Sampling { top_p: 0.65, ..PLAIN }, &[1, 3]),
        (Sampling { top_p: 0.75, ..PLAIN }, &[1, 2, 3]),
        (Sampling { min_p: 0.6, ..PLAIN }, &[1, 3]),
        (Sampling { min_p: 1.0, ..PLAIN }, &[1]),
        // Of the two best, the first alone has 4/7 of the probability: top-p counts what top-k let through.
        (Sampling { top_k: 2, top_p: 0.55, ..PLAIN }, &[1]),
        // Temperature comes last: it does not flatten what the others look at.
        (Sampling { temperature: 100.0, min_p: 0.6, ..PLAIN }, &[1, 3]),
    ];
    for (sampling, expected) in table {
        let counts = counts(&tenths(), sampling);
        let drawn: Vec<usize> = (0..4).filter(|&token| counts[token] > 0).collect();
        assert_eq!(drawn, expected, "{sampling:?}");
    }
}

#[test]
fn ties_at_a_filter_go_to_the_lowest_ids() {
    for (sampling, expected) in [
        (Sampling { top_k: 2, ..PLAIN }, [true, true, false, false]),
        (Sampling { top_p: 0.5, ..PLAIN }, [true, true, false, false]),
    ] {
        let counts = counts(&[1.0; 4], sampling);
        assert_eq!(counts.iter().map(|&count| count > 0).collect::<Vec<_>>(), expected, "{sampling:?}");
    }
}

#[test]
fn infinities_and_nan_are_no_trouble() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for (logits, possible) in [
        (&[1.0, inf, 2.0, inf][..], &[1, 3][..]),
        (&[-inf, -inf], &[0, 1]),
        (&[nan, -inf, nan], &[1]),
        (&[nan, 0.0, -inf], &[1]),
    ] {
        let counts = counts(logits, PLAIN);
        let drawn: Vec<usize> = (0..logits.len()).filter(|&token| counts[token] > 0).collect();
        assert_eq!(drawn, possible, "{logits:?}");
    }
    let mut sampler = Sampler::new(&PLAIN).expect("good options");
    assert_eq!(sampler.token(&halves(&[nan, nan]), 0), None);
    assert_eq!(sampler.token(&[], 0), None);
}

#[test]
fn options_that_make_no_sampler_are_refused_with_the_number() {
    for (sampling, expected) in [
        (Sampling { temperature: -1.0, ..PLAIN }, "the temperature is -1"),
        (Sampling { temperature: f64::NAN, ..PLAIN }, "the temperature is NaN"),
        (Sampling { temperature: f64::INFINITY, ..PLAIN }, "the temperature is inf"),
        (Sampling { top_p: 0.0, ..PLAIN }, "top-p is 0"),
        (Sampling { top_p: 1.1, ..PLAIN }, "top-p is 1.1"),
        (Sampling { top_p: f64::NAN, ..PLAIN }, "top-p is NaN"),
        (Sampling { min_p: -0.1, ..PLAIN }, "min-p is -0.1"),
        (Sampling { min_p: 1.5, ..PLAIN }, "min-p is 1.5"),
    ] {
        let error = Sampler::new(&sampling).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("give"), "{error}");
    }
}

/// Figures that must never change, on any machine: texts are reproducible by their seed.
#[test]
fn random_numbers_stay_what_they_are() {
    let found =
        [(0, 0), (0, 1), (1, 0), (u64::MAX, u64::MAX)].map(|(seed, position)| uniform(seed, position));
    assert_eq!(found.map(f64::to_bits), GOLDEN);
    let mean = (0..10_000).map(|position| uniform(3, position)).sum::<f64>() / 10_000.0;
    assert!((mean - 0.5).abs() < 0.015, "{mean}");
}

const GOLDEN: [u64; 4] =
    [0x3fe4_e0db_a5e9_a32f, 0x3fe6_7054_60be_8829, 0x3fd7_906a_c21d_0e58, 0x3fd1_1406_38c1_6042];

proptest! {
    #[test]
    fn a_token_depends_on_nothing_but_logits_position_and_options(
        logits in prop::collection::vec(any::<u16>().prop_map(f16::from_bits), 1..200),
        positions in prop::collection::vec(0..4096usize, 1..20),
        (temperature, top_k, top_p, min_p, seed) in (0.0..3.0, 0..50usize, 0.01..=1.0, 0.0..=1.0, any::<u64>()),
    ) {
        let sampling = Sampling { temperature, top_k, top_p, min_p, seed };
        let mut used = Choose::new(&sampling).expect("good options");
        for &position in &positions {
            let fresh = Choose::new(&sampling).expect("good options").token(&logits, position);
            prop_assert_eq!(used.token(&logits, position), fresh);
            prop_assert_eq!(fresh.is_none(), logits.iter().all(|logit| logit.is_nan()));
            if let Some(token) = fresh {
                prop_assert!(!logits[token as usize].is_nan());
            }
        }
    }

    #[test]
    fn a_temperature_of_zero_and_a_single_candidate_are_greedy(
        logits in prop::collection::vec(any::<u16>().prop_map(f16::from_bits), 0..200), position in 0..100usize,
    ) {
        for sampling in [Sampling::GREEDY, Sampling { top_k: 1, ..PLAIN }, Sampling { top_p: 1e-12, ..PLAIN }] {
            let mut choose = Choose::new(&sampling).expect("good options");
            prop_assert_eq!(choose.token(&logits, position), argmax(&logits), "{:?}", sampling);
        }
    }
}
