//! Speculative decoding is exact: whatever drafter, policy, widths and executor, the tokens are those of plain decoding.

mod fixture;
mod whole;

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use anepipe_runtime::decode::{Choose, DecodeError, Decoder, Drafting, End, Limits, Sampling};
use anepipe_runtime::device::Device;
use anepipe_runtime::draft::{Drafter, NgramDrafter, Off, Table};
use anepipe_runtime::portable::{Executor, PortableDevice};
use anepipe_runtime::session::{Model, Session, SessionError};
use anepipe_runtime::token::TokenId;
use fixture::random::Random;
use proptest::prelude::*;
use whole::drafters::{Garbage, Scripted};
use whole::ways::{Erratic, LIMITS, Way, plain};
use whole::{CONTEXT, load, prompt};

/// Models of a few seeds, each in several widths and on both executors; the first is the plain one.
static MODELS: LazyLock<Vec<Vec<Arc<Model>>>> = LazyLock::new(|| {
    let plan = PortableDevice::new().with_threads(NonZeroUsize::MIN).unwrap();
    let interpreter = PortableDevice::new().with_executor(Executor::Interpreter);
    let cases: [(&dyn Device, &[u32], u32); 6] = [
        (&plan, &[1], 1),
        (&plan, &[4], 4),
        (&plan, &[1, 4], 4),
        (&plan, &[1, 2, 4, 8], 4),
        (&plan, &[1, 2, 8], 8),
        (&interpreter, &[1, 4], 4),
    ];
    let models =
        |seed| cases.iter().map(|&(device, widths, block)| load(device, seed, widths, block)).collect();
    (0..4).map(|seed| models(100 * seed)).collect()
});

/// What drafts, by number; scripted ones know what plain decoding gives.
fn drafter(number: usize, text: &[TokenId], seed: u64) -> Box<dyn Drafter> {
    match number {
        0 => Box::new(Off),
        1 => Box::new(NgramDrafter::new()),
        2 => {
            let mut table = Table::new(1000);
            (1..text.len()).for_each(|end| table.count(&text[..end], text[end]));
            Box::new(NgramDrafter::with_table(table))
        }
        3 => Box::new(Garbage(Random(seed))),
        4 => Box::new(Scripted::new(text.to_vec(), 100, seed)),
        5 => Box::new(Scripted::new(text.to_vec(), 60, seed)),
        _ => Box::new(Scripted::new(text.to_vec(), 0, seed)),
    }
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let drawn = (0.2..2.0, 0..20usize, 0.5..=1.0, 0.0..0.3, any::<u64>());
    let drawn = drawn.prop_map(|(temperature, top_k, top_p, min_p, seed)| Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
    });
    prop_oneof![Just(Sampling::GREEDY), drawn]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn tokens_do_not_depend_on_drafts_widths_or_executor(
        (seed, number, policy) in (0..4usize, 0..7usize, 0..3usize),
        // The interpreter takes its time.
        model in prop_oneof![14 => 1..5usize, 1 => Just(5)],
        (length, max_new, noise) in (1..20usize, 1..50usize, any::<u64>()), sampling in sampling(),
        end_of_text in prop::collection::vec(0..whole::VOCAB, 0..2),
    ) {
        let (models, prompt) = (&MODELS[seed], prompt(noise, length));
        let limits = Limits { max_new, end_of_text: &end_of_text };
        let expected = plain(&models[0], sampling, &prompt, limits);
        let text = [prompt.as_slice(), &expected.tokens].concat();
        let drafting = [Drafting::Always, Drafting::Never, Drafting::Adaptive(Box::default())][policy].clone();
        let mut drafter = drafter(number, &text, noise);
        let found = Way { model: &models[model], drafter: drafter.as_mut(), drafting, sampling }.decode(&prompt, limits);
        prop_assert_eq!(&found.tokens, &expected.tokens);
        prop_assert_eq!(found.end, expected.end);
    }
}

/// The comparison above would be worth little if nothing were accepted, or nothing rejected.
#[test]
fn drafts_that_are_right_save_passes_and_drafts_that_are_wrong_cost_none() {
    let (models, prompt) = (&MODELS[1], prompt(3, 5));
    for sampling in [Sampling::GREEDY, Sampling { temperature: 1.0, seed: 4, ..Sampling::GREEDY }] {
        let limits = Limits { max_new: 32, ..LIMITS };
        let expected = plain(&models[0], sampling, &prompt, limits);
        let text = [prompt.as_slice(), &expected.tokens].concat();
        let passes = |number| {
            let mut drafter = drafter(number, &text, 1);
            let way =
                Way { model: &models[2], drafter: drafter.as_mut(), drafting: Drafting::Always, sampling };
            way.decode(&prompt, limits).statistics
        };
        assert_eq!(expected.statistics.passes, 31);
        let truth = passes(4);
        // 31 tokens behind the first, four a pass, the last pass three.
        assert_eq!((truth.passes, truth.accepted, truth.proposed), (8, 23, 23));
        assert_eq!(truth.tokens_per_pass(), Some(31.0 / 8.0));
        let random = passes(5);
        assert!((9..=24).contains(&random.passes) && random.accepted < random.proposed, "{random:?}");
        let wrong = passes(6);
        assert!(wrong.passes >= 28 && wrong.drafted_passes == wrong.passes - wrong.plain_passes, "{wrong:?}");
        assert!(wrong.proposed > 50, "{wrong:?}");
    }
}

/// Each row: where generation ends, with and without drafts alike.
#[test]
fn a_generation_ends_where_it_should_and_says_why() {
    let models = &MODELS[2];
    let prompt = prompt(8, 10);
    let all = plain(&models[0], Sampling::GREEDY, &prompt, LIMITS);
    // The prompt and all but the last token fill the cache.
    assert_eq!((all.end, all.tokens.len()), (End::ContextFull, CONTEXT as usize - 10 + 1));
    let end = all.tokens[7];
    let first = all.tokens.iter().position(|&token| token == end).unwrap();
    let table = [
        (Limits { max_new: 0, end_of_text: &[] }, End::MaxNew, 0),
        (Limits { max_new: 1, end_of_text: &[] }, End::MaxNew, 1),
        (Limits { max_new: 6, end_of_text: &[] }, End::MaxNew, 6),
        (Limits { max_new: 31, end_of_text: &[] }, End::MaxNew, 31),
        (Limits { max_new: usize::MAX, end_of_text: &[] }, End::ContextFull, 31),
        (Limits { max_new: 64, end_of_text: &[end] }, End::EndOfText(end), first),
    ];
    let text = [prompt.as_slice(), &all.tokens].concat();
    for (limits, expected, length) in table {
        for (model, number) in [(0, 0), (2, 4), (2, 3), (3, 5), (4, 4)] {
            let mut drafter = drafter(number, &text, 2);
            let (drafter, model) = (drafter.as_mut(), &models[model]);
            let found = Way { model, drafter, drafting: Drafting::Always, sampling: Sampling::GREEDY };
            let found = found.decode(&prompt, limits);
            assert_eq!((found.end, found.tokens.as_slice()), (expected, &all.tokens[..length]), "{limits:?}");
        }
    }
}

#[test]
fn a_caller_that_stops_gets_nothing_more_and_can_go_on() {
    let models = &MODELS[3];
    let prompt = prompt(9, 6);
    let all = plain(&models[0], Sampling::GREEDY, &prompt, LIMITS).tokens;
    let text = [prompt.as_slice(), &all].concat();
    for stop in 1..9 {
        let mut session = Session::new(&models[2]).unwrap();
        let mut drafter = Scripted::new(text.clone(), 100, 1);
        let mut decoder = Decoder {
            choose: Choose::Greedy,
            drafter: &mut drafter,
            drafting: Drafting::Always,
            clock: &Erratic(Cell::new(0)),
        };
        let mut seen = 0;
        let stopped = decoder.generate(&mut session, &prompt, LIMITS, |_| {
            seen += 1;
            if seen == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let stopped = stopped.unwrap();
        assert_eq!((stopped.end, stopped.tokens.as_slice(), seen), (End::Stopped, &all[..stop], stop));
        // The last token is not in the cache: it is what the next generation is fed.
        let last = &all[stop - 1..stop];
        let more = decoder
            .generate(&mut session, last, Limits { max_new: 5, ..LIMITS }, |_| ControlFlow::Continue(()));
        assert_eq!(more.unwrap().tokens, all[stop..stop + 5]);
    }
}

#[test]
fn prompts_that_cannot_be_decoded_are_refused() {
    let mut session = Session::new(&MODELS[0][2]).unwrap();
    let mut decoder = Decoder {
        choose: Choose::Greedy,
        drafter: &mut Off,
        drafting: Drafting::Never,
        clock: &Erratic(Cell::new(0)),
    };
    let mut generate =
        |prompt: &[TokenId]| decoder.generate(&mut session, prompt, LIMITS, |_| ControlFlow::Continue(()));
    assert!(matches!(generate(&[]), Err(DecodeError::Session(SessionError::EmptyPrompt))));
    assert!(matches!(generate(&[1, 99]), Err(DecodeError::Session(SessionError::Token { index: 1, .. }))));
    assert!(matches!(generate(&[1; 41]), Err(DecodeError::Session(SessionError::ContextFull { .. }))));
    let full = generate(&[1; 40]).unwrap();
    assert_eq!((full.end, full.tokens.len()), (End::ContextFull, 1));
}
