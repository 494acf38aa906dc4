use super::*;

/// A match of so many tokens in the text itself.
fn own(length: usize) -> Match {
    Match { length, source: Source::Own }
}

/// One in another text.
fn other(length: usize) -> Match {
    Match { length, source: Source::Other }
}

const MS: Duration = Duration::from_millis(1);

/// A generation by arithmetic: a plain pass costs 1 and brings a token, a drafted one costs `cost`.
struct Simulation {
    gate: DraftGate,
    cost: f64,
    tokens: usize,
    time: f64,
    drafted: usize,
}

impl Simulation {
    fn new(cost: f64) -> Self {
        Self { gate: DraftGate::new(), cost, tokens: 0, time: 0.0, drafted: 0 }
    }

    /// A pass where the drafter offers a draft of `match_length` that would bring `tokens`; 0 where it has none.
    fn pass(&mut self, match_length: usize, tokens: usize) {
        if match_length > 0 && self.gate.decide(own(match_length)) == Decision::Draft {
            self.gate.drafted(own(match_length), tokens, (MS * 10).mul_f64(self.cost));
            self.time += self.cost;
            self.tokens += tokens;
            self.drafted += 1;
        } else {
            self.gate.plain(MS * 10);
            self.time += 1.0;
            self.tokens += 1;
        }
    }

    /// How much longer it took than plain decoding of as many tokens.
    fn loss(&self) -> f64 {
        self.time - self.tokens as f64
    }
}

/// Noise: each of three draft tokens is right with probability `acceptance` while those before it were.
fn brought(noise: &mut u64, acceptance: f64) -> usize {
    let mut right = || {
        *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((*noise >> 11) as f64 / (1_u64 << 53) as f64) < acceptance
    };
    1 + (0..3).take_while(|_| right()).count()
}

#[test]
fn a_draft_is_verified_when_it_pays() {
    for (cost, tokens, match_length, expected) in [
        (1.02, 2, 4, 0.96..=1.0),
        (1.02, 2, 1, 0.92..=0.94), // as soon as c was worth finding out
        (2.0, 4, 8, 0.96..=1.0),
        (1.6, 1, 1, 0.0..=0.03),  // it never pays
        (4.43, 3, 8, 0.0..=0.02), // it costs more than it brings
    ] {
        let mut simulation = Simulation::new(cost);
        (0..1000).for_each(|_| simulation.pass(match_length, tokens));
        let share = simulation.drafted as f64 / 1000.0;
        assert!(expected.contains(&share), "{cost} {tokens} {match_length}: {share}");
    }
}

#[test]
fn a_plain_pass_comes_first_and_then_a_draft_so_that_both_costs_are_known() {
    let mut gate = DraftGate::new();
    assert_eq!((gate.cost(), gate.decide(own(8))), (None, Decision::Plain));
    gate.plain(MS * 10);
    assert_eq!((gate.cost(), gate.decide(own(8))), (None, Decision::Draft));
    gate.drafted(own(8), 1, MS * 50);
    assert_eq!((gate.cost(), gate.decide(own(8))), (Some(5.0), Decision::Plain));
}

/// Each row: what the first draft rests on, and plain passes until it is verified.
#[test]
fn the_first_draft_waits_for_a_long_match_or_a_long_text() {
    for (match_length, expected) in [(8, 1), (4, 1), (3, 9), (2, 27), (1, 63)] {
        let mut gate = DraftGate::new();
        let mut plain = 0;
        while gate.decide(own(match_length)) == Decision::Plain {
            gate.plain(MS * 10);
            plain += 1;
        }
        assert_eq!(plain, expected, "a match of {match_length}");
    }
}

/// A text that is over before anything could be made up for, and whose drafts are wrong: plain decoding is all it gets.
#[test]
fn a_short_text_pays_for_no_doubtful_draft() {
    for cost in [1.1, 1.6, 2.2, 4.0] {
        let mut simulation = Simulation::new(cost);
        (0..24).for_each(|pass| simulation.pass(1 + pass % 2, 1));
        assert_eq!((simulation.drafted, simulation.time, simulation.tokens), (0, 24.0, 24), "c {cost}");
    }
}

/// Whatever the cost, the acceptance and the match lengths: plain decoding is at most a few passes and one in a hundred faster.
#[test]
fn drafting_never_loses_more_than_its_credit_and_what_it_earned() {
    for cost in [1.0, 1.02, 1.2, 1.6, 2.0, 3.0, 4.43, 8.0] {
        for acceptance in [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0] {
            for lengths in [&[1][..], &[8], &[1, 2, 3, 4, 5, 6, 7, 8], &[0, 0, 3], &[2, 0, 8]] {
                let mut simulation = Simulation::new(cost);
                let mut noise = 1;
                for pass in 0..4000 {
                    simulation.pass(lengths[pass % lengths.len()], brought(&mut noise, acceptance));
                    let allowed = CREDIT + cost + EARNED * (pass + 1) as f64;
                    let loss = simulation.loss();
                    assert!(
                        loss <= allowed,
                        "c {cost}, {acceptance}, {lengths:?}, pass {pass}: {loss} > {allowed}"
                    );
                }
            }
        }
    }
}

/// The other side: where drafts pay, hardly anything of it is missed.
#[test]
fn drafting_gains_nearly_all_that_can_be_gained() {
    for (cost, acceptance, length) in
        [(1.02, 0.5, 3), (1.02, 0.9, 8), (1.2, 0.5, 2), (1.6, 0.7, 4), (2.0, 0.9, 8)]
    {
        let (mut simulation, mut always) = (Simulation::new(cost), 0.0);
        let mut noise = 1;
        for _ in 0..4000 {
            let tokens = brought(&mut noise, acceptance);
            always += tokens as f64 - cost;
            simulation.pass(length, tokens);
        }
        let gain = -simulation.loss();
        assert!(always > 0.0 && gain > 0.94 * always, "c {cost}, {acceptance}: {gain} of {always}");
    }
}

#[test]
fn what_stopped_paying_is_tried_again_and_taken_up_when_it_pays_again() {
    let mut simulation = Simulation::new(1.6);
    (0..500).for_each(|_| simulation.pass(4, 1));
    let before = simulation.drafted;
    (0..6000).for_each(|_| simulation.pass(4, 1));
    let tried = simulation.drafted - before;
    assert!((50..=100).contains(&tried), "{tried} of 6000");
    let before = simulation.drafted;
    (0..6000).for_each(|_| simulation.pass(4, 4));
    assert!(simulation.drafted - before > 3000, "{} of 6000", simulation.drafted - before);
}

#[test]
fn a_first_pass_that_was_slow_is_found_out() {
    // The first plain pass pays for cold memory: c looks like 0.2 and is 2.
    let mut gate = DraftGate::new();
    gate.plain(MS * 100);
    let mut drafted = 0;
    for _ in 0..200 {
        if gate.decide(own(4)) == Decision::Draft {
            gate.drafted(own(4), 1, MS * 20);
            drafted += 1;
        } else {
            gate.plain(MS * 10);
        }
    }
    // Four before the second plain pass, and three tries of 64 refusals each.
    assert_eq!((drafted, gate.cost()), (7, Some(2.0)));
}

#[test]
fn times_of_zero_give_no_cost() {
    let mut gate = DraftGate::new();
    gate.plain(Duration::ZERO);
    gate.drafted(own(1), 2, Duration::ZERO);
    assert_eq!(gate.cost(), None);
}

/// Own text that loops pays at c = 2; what other texts said does not, and must not talk the gate out of the first.
#[test]
fn matches_in_the_text_and_in_others_are_judged_apart() {
    let mut gate = DraftGate::new();
    let mut verified = [0; 2];
    for pass in 0..400 {
        let (kind, rests_on, tokens) = [(0, own(8), 4), (1, other(8), 1)][pass % 2];
        if gate.decide(rests_on) == Decision::Draft {
            gate.drafted(rests_on, tokens, MS * 20);
            verified[kind] += 1;
        } else {
            gate.plain(MS * 10);
        }
    }
    assert!(verified[0] > 190 && verified[1] < 15, "{verified:?}");
}

/// Each row: a match, and whether it is verified at c = 2 by a gate that knows nothing but c.
#[test]
fn a_match_in_another_text_has_to_be_longer() {
    for (rests_on, expected) in [
        (own(3), Decision::Draft),
        (other(3), Decision::Plain),
        (own(2), Decision::Plain),
        (other(5), Decision::Draft),
        (other(8), Decision::Draft),
    ] {
        let mut gate = DraftGate::new();
        gate.plain(MS * 10);
        gate.drafted(own(8), 4, MS * 20);
        assert_eq!(gate.decide(rests_on), expected, "{rests_on:?}");
    }
}
