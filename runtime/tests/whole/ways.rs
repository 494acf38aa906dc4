//! Decoding in one way and another.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anepipe_runtime::decode::{Choose, Clock, Decoder, Drafting, End, Generated, Limits, Sampling};
use anepipe_runtime::draft::{Drafter, Off};
use anepipe_runtime::session::{Model, Session};
use anepipe_runtime::token::TokenId;

use crate::fixture::random::Random;

/// A clock on which every look takes a time of its own: gates come to all kinds of opinions.
pub struct Erratic(pub Cell<u64>);

impl Clock for Erratic {
    fn now(&self) -> Duration {
        let mut random = Random(self.0.get());
        self.0.set(self.0.get().wrapping_add(1 + random.bits() % 7));
        Duration::from_millis(self.0.get())
    }
}

/// One way to decode.
pub struct Way<'a> {
    pub model: &'a Arc<Model>,
    pub drafter: &'a mut dyn Drafter,
    pub drafting: Drafting,
    pub sampling: Sampling,
}

pub const LIMITS: Limits<'static> = Limits { max_new: 64, end_of_text: &[] };

impl Way<'_> {
    /// Decodes in a fresh session, and checks that what is said about it is true.
    pub fn decode(self, prompt: &[TokenId], limits: Limits<'_>) -> Generated {
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

/// One token a pass, nothing drafted.
pub fn plain(model: &Arc<Model>, sampling: Sampling, prompt: &[TokenId], limits: Limits<'_>) -> Generated {
    Way { model, drafter: &mut Off, drafting: Drafting::Never, sampling }.decode(prompt, limits)
}
