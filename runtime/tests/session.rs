//! Sessions: what a pass gives does not depend on how tokens are cut into passes, and what cannot be done is said by name.

mod fixture;
mod whole;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use anepipe_runtime::bundle::Parts;
use anepipe_runtime::decode::argmax;
use anepipe_runtime::portable::{Executor, PortableDevice};
use anepipe_runtime::session::{Model, Session, SessionError};
use anepipe_runtime::token::TokenId;
use proptest::prelude::*;
use whole::faults::{Fault, Faulty};
use whole::{CONTEXT, VOCAB, bits, load, one_by_one, prompt, write};

const WIDTHS: [(&[u32], u32); 4] = [(&[1], 1), (&[4], 4), (&[1, 4], 4), (&[1, 2, 4, 8], 4)];

#[test]
fn every_width_and_executor_gives_the_same_logits() {
    let tokens = prompt(1, 23);
    let expected = one_by_one(&load(&PortableDevice::new(), 5, &[1], 1), &tokens);
    let interpreter = PortableDevice::new().with_executor(Executor::Interpreter);
    let threads = PortableDevice::new().with_threads(NonZeroUsize::new(3).unwrap()).unwrap();
    for device in [PortableDevice::new(), interpreter, threads] {
        for (widths, block) in WIDTHS {
            let model = load(&device, 5, widths, block);
            assert_eq!(one_by_one(&model, &tokens), expected, "{device:?} {widths:?}");
            let mut session = Session::new(&model).unwrap();
            let mut forced = Vec::new();
            session.force(&tokens, |position, logits| forced.push((position, bits(logits)))).unwrap();
            let numbered: Vec<_> = expected.iter().cloned().enumerate().collect();
            assert_eq!(forced, numbered, "{device:?} {widths:?}");
            assert_eq!(session.position(), tokens.len());
        }
    }
}

#[test]
fn the_likeliest_token_is_that_of_the_largest_logit_behind_every_slot() {
    for (widths, block) in WIDTHS {
        let model = load(&PortableDevice::new(), 5, widths, block);
        let mut session = Session::new(&model).unwrap();
        for seed in 0..6 {
            let tokens = prompt(seed, model.widest().min(3 + seed as usize % 2));
            session.pass(&tokens).unwrap();
            // The last token alone, for which the heads run first, and then all.
            for slot in [tokens.len() - 1].into_iter().chain(0..tokens.len()) {
                let likeliest = session.likeliest(slot).unwrap();
                assert_eq!(likeliest, argmax(session.logits(slot).unwrap()), "{widths:?} {slot}");
                assert!(likeliest.is_some());
            }
            let outside = session.likeliest(tokens.len());
            assert!(matches!(outside, Err(SessionError::NotInPass { .. })), "{outside:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Prefilled pieces and forced pieces of any lengths, in any order of widths.
    #[test]
    fn prefill_in_any_partition_gives_the_bits_of_one_token_at_a_time(
        seed in 0..4u64, lengths in prop::collection::vec(1..12usize, 1..8), widths in 0..WIDTHS.len(),
    ) {
        let total = lengths.iter().sum::<usize>().min(CONTEXT as usize);
        let tokens = prompt(seed, total);
        let device = PortableDevice::new();
        let expected = one_by_one(&load(&device, seed, &[1], 1), &tokens);
        let (widths, block) = WIDTHS[widths];
        let mut session = Session::new(&load(&device, seed, widths, block)).unwrap();
        let mut rest = tokens.as_slice();
        for length in lengths {
            let (piece, later) = rest.split_at(length.min(rest.len()));
            if piece.is_empty() {
                break;
            }
            let logits = bits(session.prefill(piece).unwrap());
            rest = later;
            prop_assert_eq!(session.position(), total - rest.len());
            prop_assert_eq!(&logits, &expected[session.position() - 1]);
        }
    }

    /// Any walk of passes, partial commits and rewinds ends in the state that its committed tokens alone make.
    #[test]
    fn only_committed_tokens_matter(
        steps in prop::collection::vec((1..=8usize, 0..=8usize, 0..30usize, any::<u64>()), 1..12), last in 0..VOCAB,
    ) {
        let device = PortableDevice::new();
        let mut session = Session::new(&load(&device, 9, &[1, 2, 4, 8], 4)).unwrap();
        let mut committed: Vec<TokenId> = Vec::new();
        for (count, kept, back, seed) in steps {
            let tokens = prompt(seed, count.min(session.room().saturating_sub(1)));
            if tokens.is_empty() {
                break;
            }
            session.pass(&tokens).unwrap();
            if seed % 3 == 0 {
                session.logits(seed as usize % tokens.len()).unwrap();
            }
            let kept = kept.min(tokens.len());
            session.commit(kept).unwrap();
            committed.extend(&tokens[..kept]);
            if seed % 5 == 0 {
                session.rewind(back);
                committed.truncate(back);
            }
            prop_assert_eq!(session.position(), committed.len());
        }
        session.pass(&[last]).unwrap();
        committed.push(last);
        let expected = one_by_one(&load(&device, 9, &[1], 1), &committed);
        prop_assert_eq!(&bits(session.logits(0).unwrap()), expected.last().unwrap());
    }
}

#[test]
fn logits_of_a_pass_can_be_asked_for_in_any_order() {
    let tokens = prompt(3, 4);
    let model = load(&PortableDevice::new(), 2, &[1, 4], 4);
    let expected = one_by_one(&model, &tokens);
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [3, 0, 3, 1], [1, 3, 2, 2]] {
        let mut session = Session::new(&model).unwrap();
        session.pass(&tokens).unwrap();
        for slot in order {
            assert_eq!(bits(session.logits(slot).unwrap()), expected[slot], "{order:?}");
        }
    }
}

#[test]
fn sessions_of_one_model_do_not_disturb_each_other() {
    let model = load(&PortableDevice::new(), 2, &[1, 4], 4);
    let texts = [prompt(1, 11), prompt(2, 11)];
    let expected = texts.clone().map(|text| one_by_one(&model, &text));
    let mut sessions = [Session::new(&model).unwrap(), Session::new(&model).unwrap()];
    for index in 0..11 {
        for ((session, text), expected) in sessions.iter_mut().zip(&texts).zip(&expected) {
            assert_eq!(bits(session.prefill(&text[index..=index]).unwrap()), expected[index]);
        }
    }
}

#[test]
fn sessions_of_one_model_run_side_by_side() {
    let model = load(&PortableDevice::new(), 2, &[1, 4], 4);
    let expected: Vec<_> = (0..3).map(|seed| one_by_one(&model, &prompt(seed, 20)).pop().unwrap()).collect();
    let found: Vec<_> = std::thread::scope(|scope| {
        let run = |seed| {
            let model = &model;
            scope.spawn(move || bits(Session::new(model).unwrap().prefill(&prompt(seed, 20)).unwrap()))
        };
        let running: Vec<_> = (0..3).map(run).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(found, expected);
}

#[test]
fn what_a_session_cannot_do_is_refused_and_changes_nothing() {
    let model = load(&PortableDevice::new(), 2, &[1, 4], 4);
    let mut session = Session::new(&model).unwrap();
    let tokens = prompt(4, CONTEXT as usize);
    let full = "they do not fit a context of 40; shorten the prompt or build with a larger --context";
    let refused = |result: Result<(), SessionError>, expected: &str| {
        let error = result.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    for used in [0, 37] {
        if used > 0 {
            session.prefill(&tokens[..used]).unwrap();
        }
        refused(session.prefill(&[]).map(|_| ()), "it has no tokens; give at least one");
        refused(session.force(&[], |_, _| ()), "it has no tokens");
        refused(session.prefill(&prompt(1, 41 - used)).map(|_| ()), full);
        refused(
            session.prefill(&[1, 2, VOCAB]).map(|_| ()),
            "token number 2: its id 61 is outside the vocabulary of 61",
        );
        refused(session.pass(&[TokenId::MAX]), "token number 0: its id 4294967295 is outside");
        refused(session.pass(&[]), "0 tokens were given, a pass carries 1 to 4");
        refused(session.pass(&[1; 5]), "5 tokens were given, a pass carries 1 to 4");
        refused(
            session.logits(0).map(|_| ()),
            "token 0's logits was asked for; run a pass that has it first",
        );
        refused(session.commit(1), "committing 1 tokens was asked for");
        assert_eq!(session.position(), used);
    }
    refused(session.pass(&[1; 4]), full);
    session.pass(&[tokens[37]]).unwrap();
    refused(session.commit(2), "committing 2 tokens");
    session.commit(1).unwrap();
    refused(session.commit(1), "after a pass of 0 tokens");
    let logits = bits(session.prefill(&tokens[38..]).unwrap());
    assert_eq!(&logits, one_by_one(&model, &tokens).last().unwrap());
    assert_eq!(session.room(), 0);
    refused(session.pass(&[1]), full);
}

#[test]
fn a_pass_that_failed_ends_the_session() {
    let model = load(&Faulty::new(Fault::FailAfter(4)), 2, &[1, 4], 4);
    let mut session = Session::new(&model).unwrap();
    let error = session.prefill(&prompt(1, 20)).expect_err("it fails").to_string();
    assert!(error.contains("layers_0.mlmodelc: running a shard: the power is out"), "{error}");
    assert_eq!(session.position(), 0);
    let error = session.prefill(&prompt(1, 20)).expect_err("it is broken").to_string();
    assert!(error.contains("open another session"), "{error}");
    assert!(Session::new(&model).unwrap().prefill(&prompt(1, 20)).is_ok());
}

/// Each row: what is wrong with the parts, and what the refusal says.
#[test]
fn parts_of_different_models_are_refused_by_name() {
    type Damage = fn(&Path, &mut Parts);
    let table: [(&str, Damage); 14] = [
        ("no layers or no head", |_, parts| parts.layers.clear()),
        ("no layers or no head", |_, parts| parts.heads.clear()),
        ("block of 3 tokens is none of its widths [1, 4]", |_, parts| parts.block = 3),
        ("there is no `t2`, it has `t1`, `t4`", |_, parts| parts.widths.push(2)),
        ("there is no `main`", |_, parts| (parts.widths, parts.block) = (vec![4], 4)),
        ("do not follow row 40", |_, parts| parts.heads[1].rows.start = 41),
        ("end at row 60 of a vocabulary of 61", |_, parts| parts.heads[1].rows.end = 60),
        ("end at row 61 of a vocabulary of 62", |_, parts| parts.vocab = 62),
        ("`embedding` is F16 [61, 32], the model has F16 [61, 31]", |_, parts| parts.hidden = 31),
        ("the model (1, 32, Some(41))", |_, parts| parts.context = 41),
        ("the model (1, 32, None, 39)", |_, parts| {
            (parts.heads[0].rows.end, parts.heads[1].rows.start) = (39, 39);
        }),
        ("has (tokens, width, context, rows) (1, 32, None)", |_, parts| {
            parts.layers[1] = parts.heads[0].path.clone();
        }),
        ("rotates 4 elements of a head, the shard 6", |_, parts| {
            (parts.rope.rope_dim, parts.rope.factors) = (4, None);
        }),
        ("opening the model: loading the shard", |folder, parts| {
            parts.layers[0] = folder.join("absent.mlmodelc");
        }),
    ];
    for (expected, damage) in table {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = write(folder.path(), 1, &[1, 4], 4);
        damage(folder.path(), &mut parts);
        let opened = Model::open(&parts, &PortableDevice::new());
        let refused = opened.and_then(|model| Session::new(&Arc::new(model)).map(|_| ()));
        let error = refused.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}\n  does not say: {expected}");
    }
}

#[test]
fn an_embedding_that_is_cut_short_or_of_another_size_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let parts = write(folder.path(), 1, &[1, 4], 4);
    let bytes = fs_err::read(&parts.embedding).unwrap();
    fs_err::write(&parts.embedding, &bytes[..bytes.len() - 64]).unwrap();
    let error = Model::open(&parts, &PortableDevice::new()).err().unwrap().to_string();
    assert!(error.contains("embedding.safetensors: it is no whole safetensors file"), "{error}");
    whole::write_embedding(&parts.embedding, 60, 1);
    let error = Model::open(&parts, &PortableDevice::new()).err().unwrap().to_string();
    assert!(error.contains("F16 [60, 32], the model has F16 [61, 32]; build the bundle again"), "{error}");
}

/// What was put into the cache is what later tokens look at: rows of other numbers give other logits, equal ones equal logits.
#[test]
fn a_session_can_be_put_where_no_text_has_taken_it() {
    let model = load(&PortableDevice::new(), 5, &[1, 4], 4);
    let occupied = |position: usize, value: f32| {
        let mut session = Session::new(&model).unwrap();
        let mut calls = 0;
        let fill = || {
            calls += 1;
            half::f16::from_f32(value * (calls % 7) as f32)
        };
        session.occupy(position, fill).unwrap();
        assert_eq!((session.position(), session.room()), (position, CONTEXT as usize - position));
        session.pass(&[3, 4]).unwrap();
        (calls, bits(session.logits(1).unwrap()))
    };
    let (calls, logits) = occupied(20, 0.5);
    // Two layers, each with keys and values of two heads of eight.
    assert_eq!(calls, 2 * 2 * 2 * 8 * 20);
    assert_eq!(occupied(20, 0.5).1, logits);
    assert_ne!(occupied(20, 0.25).1, logits);
    assert_ne!(occupied(19, 0.5).1, logits);
    let empty = occupied(0, 0.5);
    let mut session = Session::new(&model).unwrap();
    session.pass(&[3, 4]).unwrap();
    assert_eq!(empty, (0, bits(session.logits(1).unwrap())));

    let beyond = session.occupy(CONTEXT as usize + 1, || half::f16::ONE).unwrap_err();
    assert!(beyond.to_string().contains("41 tokens"), "{beyond}");
    assert_eq!(session.position(), 0);
    session.occupy(CONTEXT as usize, || half::f16::ONE).unwrap();
    assert!(matches!(session.pass(&[1]), Err(SessionError::ContextFull { .. })));
}
