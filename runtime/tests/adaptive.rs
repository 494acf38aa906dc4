//! The draft gate at work in the loop, on a device whose passes take a stated time.

mod fixture;
mod whole;

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anepipe_runtime::decode::{Choose, Clock, Decoder, Drafting, Limits, Statistics};
use anepipe_runtime::device::{Device, Function, Shard, State};
use anepipe_runtime::draft::{DraftGate, Drafter, Off};
use anepipe_runtime::error::RuntimeError;
use anepipe_runtime::portable::PortableDevice;
use anepipe_runtime::session::{Model, Session};
use anepipe_runtime::tensor::Tensor;
use anepipe_runtime::token::TokenId;
use whole::drafters::Scripted;
use whole::{load, prompt};

/// The time, in milliseconds: only passes take any.
#[derive(Clone, Default)]
struct Time(Arc<AtomicU64>);

impl Clock for Time {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// The portable device, where a function of one token takes 10 ms and a wider one another time.
struct Priced {
    time: Time,
    wide: u64,
}

impl Device for Priced {
    fn name(&self) -> &'static str {
        "priced"
    }

    fn load(&self, model: &Path) -> Result<Box<dyn Shard>, RuntimeError> {
        let shard = PortableDevice::new().with_threads(NonZeroUsize::MIN)?.load(model)?;
        Ok(Box::new(PricedShard { shard, time: self.time.clone(), wide: self.wide }))
    }
}

struct PricedShard {
    shard: Box<dyn Shard>,
    time: Time,
    wide: u64,
}

impl Shard for PricedShard {
    fn functions(&self) -> &[Function] {
        self.shard.functions()
    }

    fn new_state(&self) -> Box<dyn State> {
        self.shard.new_state()
    }

    fn predict(
        &self,
        function: usize,
        inputs: &[Tensor],
        state: &mut dyn State,
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError> {
        let took = if self.functions()[function].name == "t1" { 10 } else { self.wide };
        self.time.0.fetch_add(took, Ordering::SeqCst);
        self.shard.predict(function, inputs, state, outputs)
    }
}

const LIMITS: Limits<'static> = Limits { max_new: 36, end_of_text: &[] };

/// A conversation of `prompts`, each continued by 36 tokens in a session of its own, with one gate for all.
fn converse(
    model: &Arc<Model>,
    time: &Time,
    prompts: &[Vec<TokenId>],
    mut drafting: Drafting,
    drafter: impl Fn(&[TokenId]) -> Box<dyn Drafter>,
) -> (Vec<Vec<TokenId>>, Vec<Statistics>) {
    let mut texts = Vec::new();
    let mut statistics = Vec::new();
    for prompt in prompts {
        let mut drafter = drafter(prompt);
        let mut decoder =
            Decoder { choose: Choose::Greedy, drafter: drafter.as_mut(), drafting, clock: time };
        let mut session = Session::new(model).unwrap();
        let generated =
            decoder.generate(&mut session, prompt, LIMITS, |_| ControlFlow::Continue(())).unwrap();
        drafting = decoder.drafting;
        texts.push(generated.tokens);
        statistics.push(generated.statistics);
    }
    (texts, statistics)
}

/// Each row: c in tenths, how many of a hundred draft tokens are right, and the time in plain passes that 700 tokens may take.
#[test]
fn drafts_are_verified_where_they_pay_and_left_where_they_do_not() {
    let table = [
        (10, 100, 180.0..=200.0),
        (13, 60, 400.0..=450.0),
        (20, 100, 350.0..=395.0),
        (20, 0, 700.0..=720.0),
        (45, 100, 700.0..=720.0),
        (45, 0, 700.0..=720.0),
    ];
    let prompts: Vec<Vec<TokenId>> = (0..20).map(|seed| prompt(seed, 4)).collect();
    for (cost, right, expected) in table {
        let time = Time::default();
        let model = load(&Priced { time: time.clone(), wide: cost }, 500, &[1, 4], 4);
        let (plain, _) = converse(&model, &time, &prompts, Drafting::Never, |_| Box::new(Off));
        let script = |start: &[TokenId]| -> Box<dyn Drafter> {
            let index = prompts.iter().position(|prompt| prompt == start).unwrap();
            Box::new(Scripted::new([start, &plain[index]].concat(), right, 1))
        };
        let gate = Drafting::Adaptive(Box::new(DraftGate::new()));
        let (found, statistics) = converse(&model, &time, &prompts, gate, script);
        assert_eq!(found, plain);
        // A plain pass is two shards of layers and two heads.
        let took = statistics.iter().map(|each| each.decode.as_millis() as f64 / 40.0).sum::<f64>();
        assert!(expected.contains(&took), "c {cost}, {right} of a hundred: {took} plain passes");
        for each in &statistics {
            assert!(
                each.cost().is_none_or(|measured| (measured - cost as f64 / 10.0).abs() < 1e-9),
                "{each:?}"
            );
            assert_eq!(each.decode, each.plain + each.drafted, "nothing but passes takes time");
            assert_eq!((each.prefill_passes, each.tokens), (1, 36));
        }
        // The first prompt was one pass through the widest layers, and the heads for its last token.
        assert_eq!(statistics[0].time_to_first_token, Duration::from_millis(2 * cost + 20));
    }
}
