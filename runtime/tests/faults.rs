//! Decoding on devices that do something on purpose: what must not matter does not, and what must be noticed is.

mod fixture;
mod whole;

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;

use anepipe_runtime::decode::{Choose, DecodeError, Decoder, Drafting, Limits, Sampling};
use anepipe_runtime::draft::Off;
use anepipe_runtime::portable::PortableDevice;
use anepipe_runtime::session::{Model, Session};
use fixture::random::Random;
use whole::drafters::{Garbage, Scripted};
use whole::faults::{Fault, Faulty};
use whole::ways::{Erratic, LIMITS, Way, plain};
use whole::{load, prompt};

/// A model on which token 7 is all NaN.
fn model_with_nan() -> Arc<Model> {
    let folder = tempfile::tempdir().unwrap();
    let parts = whole::write(folder.path(), 0, &[1, 4], 4);
    let mut bytes = fs_err::read(&parts.embedding).unwrap();
    let row = bytes.len() - 64 * (whole::VOCAB as usize - 7);
    bytes[row..row + 64].fill(0xff);
    fs_err::write(&parts.embedding, bytes).unwrap();
    Arc::new(Model::open(&parts, &PortableDevice::new()).unwrap())
}

#[test]
fn logits_without_a_number_are_an_error_and_no_token() {
    let model = model_with_nan();
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

/// What the masked write does to a draft that is not finite: 0 · NaN is NaN, everywhere.
#[test]
fn a_draft_that_poisons_the_cache_ends_in_an_error_and_never_in_another_token() {
    let model = model_with_nan();
    let prompt = prompt(6, 4);
    let expected = plain(&model, Sampling::GREEDY, &prompt, Limits { max_new: 6, end_of_text: &[] }).tokens;
    assert!(!expected.contains(&7));
    // Token 0 follows from the prompt, and token 4 is what the first pass gives beyond its draft: nothing drafts these.
    for at in [1, 2, 3, 5] {
        // The truth up to a token, and 7 in its place.
        let mut text = [prompt.as_slice(), &expected].concat();
        text[prompt.len() + at] = 7;
        let mut handed = Vec::new();
        let generated = Decoder {
            choose: Choose::Greedy,
            drafter: &mut Scripted::new(text, 100, 1),
            drafting: Drafting::Always,
            clock: &Erratic(Cell::new(0)),
        }
        .generate(&mut Session::new(&model).unwrap(), &prompt, LIMITS, |token| {
            handed.push(token);
            ControlFlow::Continue(())
        });
        assert!(matches!(generated, Err(DecodeError::NoChoice { .. })), "{at}");
        assert_eq!(handed, expected[..handed.len()], "{at}");
    }
}

/// Greedy and sampled texts on a device with `fault`, plain and with drafts: of how many prompts do they differ?
fn differing(fault: Fault) -> (usize, usize) {
    let narrow = load(&Faulty::new(fault), 300, &[1], 1);
    let wide = load(&Faulty::new(fault), 300, &[1, 4], 4);
    let healthy = load(&PortableDevice::new(), 300, &[1], 1);
    let (mut from_plain, mut from_healthy) = (0, 0);
    for seed in 0..12_u64 {
        let temperature = (seed % 2) as f64;
        let sampling = Sampling { temperature, seed, ..Sampling::GREEDY };
        let prompt = prompt(seed, 5);
        let alone = plain(&narrow, sampling, &prompt, LIMITS).tokens;
        let mut garbage = Garbage(Random(seed));
        let way = Way { model: &wide, drafter: &mut garbage, drafting: Drafting::Always, sampling };
        let found = way.decode(&prompt, LIMITS).tokens;
        from_plain += usize::from(found != alone);
        from_healthy += usize::from(found != plain(&healthy, sampling, &prompt, LIMITS).tokens);
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
