//! Speculative decoding is exact: whatever drafter, policy, widths and executor, the tokens are those of plain decoding. And the
//! comparison that says so notices a mask that lets one row through.

mod fixture;
mod whole;

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anepipe_runtime::decode::{
    Choose, Clock, DecodeError, Decoder, Drafting, End, Generated, Limits, Sampling,
};
use anepipe_runtime::device::Device;
use anepipe_runtime::draft::{Drafter, NgramDrafter, Off, Table};
use anepipe_runtime::portable::{Executor, PortableDevice};
use anepipe_runtime::session::{Model, Session, SessionError};
use anepipe_runtime::token::TokenId;
use fixture::random::Random;
use proptest::prelude::*;
use whole::drafters::{Garbage, Scripted};
use whole::faults::{Fault, Faulty};
use whole::{CONTEXT, load, prompt};

/// A clock on which every look takes a time of its own: gates come to all kinds of opinions.
struct Erratic(Cell<u64>);

impl Clock for Erratic {
    fn now(&self) -> Duration {
        let mut random = Random(self.0.get());
        self.0.set(self.0.get().wrapping_add(1 + random.bits() % 7));
        Duration::from_millis(self.0.get())
    }
}

/// One way to decode.
struct Way<'a> {
    model: &'a Arc<Model>,
    drafter: &'a mut dyn Drafter,
    drafting: Drafting,
    sampling: Sampling,
}

const LIMITS: Limits<'static> = Limits { max_new: 64, end_of_text: &[] };

impl Way<'_> {
    fn decode(self, prompt: &[TokenId], limits: Limits<'_>) -> Generated {
        let mut session = Session::new(self.model).unwrap();
        let mut handed = Vec::new();
        let generated = Decoder {
            choose: Choose::new(&self.sampling).unwrap(),
            drafter: self.drafter,
            drafting: self.drafting,
            clock: &Erratic(Cell::new(0)),
        }
        .generate(&mut session, prompt, limits, |token| {
            handed.push(token);
            ControlFlow::Continue(())
        })
        .unwrap();
        let statistics = generated.statistics;
        assert_eq!(handed, generated.tokens);
        assert_eq!(statistics.tokens, generated.tokens.len());
        assert_eq!(statistics.passes, statistics.plain_passes + statistics.drafted_passes);
        assert!(statistics.accepted <= statistics.proposed);
        if !generated.tokens.is_empty() && !matches!(generated.end, End::EndOfText(_)) {
            assert_eq!(statistics.passes + statistics.accepted + 1, generated.tokens.len());
            assert_eq!(session.position(), prompt.len() + generated.tokens.len() - 1);
        }
        generated
    }
}

fn plain(model: &Arc<Model>, sampling: Sampling, prompt: &[TokenId], limits: Limits<'_>) -> Generated {
    Way { model, drafter: &mut Off, drafting: Drafting::Never, sampling }.decode(prompt, limits)
}

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

/// A model that says nothing but NaN once it has read token 7.
#[test]
fn logits_without_a_number_are_an_error_and_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let parts = whole::write(folder.path(), 0, &[1, 4], 4);
    let mut bytes = fs_err::read(&parts.embedding).unwrap();
    let row = bytes.len() - 64 * (whole::VOCAB as usize - 7);
    bytes[row..row + 64].fill(0xff);
    fs_err::write(&parts.embedding, bytes).unwrap();
    let model = Arc::new(Model::open(&parts, &PortableDevice::new()).unwrap());
    for sampling in [Sampling::GREEDY, Sampling { temperature: 1.0, ..Sampling::GREEDY }] {
        let mut decoder = Decoder {
            choose: Choose::new(&sampling).unwrap(),
            drafter: &mut Off,
            drafting: Drafting::Never,
            clock: &Erratic(Cell::new(0)),
        };
        let mut session = Session::new(&model).unwrap();
        let error = decoder.generate(&mut session, &[3, 7], LIMITS, |_| ControlFlow::Continue(()));
        let error = error.expect_err("no token").to_string();
        assert!(
            error.contains("the token at position 2: every logit is NaN; run `anepipe gate parity`"),
            "{error}"
        );
    }
}

/// Greedy and sampled texts on a device with `fault`, plain and with drafts: of how many prompts do they differ?
fn differing(fault: Fault) -> (usize, usize) {
    let narrow = load(&Faulty::new(fault), 300, &[1], 1);
    let wide = load(&Faulty::new(fault), 300, &[1, 4], 4);
    let healthy = &MODELS[3][0];
    let (mut from_plain, mut from_healthy) = (0, 0);
    for seed in 0..12_u64 {
        let temperature = (seed % 2) as f64;
        let sampling = Sampling { temperature, seed, ..Sampling::GREEDY };
        let prompt = prompt(seed, 5);
        let plain = plain(&narrow, sampling, &prompt, LIMITS).tokens;
        let mut garbage = Garbage(Random(seed));
        let way = Way { model: &wide, drafter: &mut garbage, drafting: Drafting::Always, sampling };
        let found = way.decode(&prompt, LIMITS).tokens;
        from_plain += usize::from(found != plain);
        from_healthy += usize::from(found != self::plain(healthy, sampling, &prompt, LIMITS).tokens);
    }
    (from_plain, from_healthy)
}

#[test]
fn what_rejected_drafts_leave_in_the_cache_changes_nothing() {
    assert_eq!(differing(Fault::Scribble), (0, 0));
}

#[test]
fn a_mask_that_lets_one_slot_see_one_row_too_many_is_noticed() {
    let (from_plain, from_healthy) = differing(Fault::LeakyMask);
    assert!(from_plain >= 10 && from_healthy >= 10, "{from_plain} and {from_healthy} of 12");
}
