//! Decoding prompts without drafts and with them, in turns.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anepipe_pipeline::gates::exact::Tokens;
use anepipe_runtime::decode::{Choose, DecodeError, Decoder, Drafting, Generated, Limits, Monotonic};
use anepipe_runtime::draft::{DraftGate, Drafter, KEPT_RUNS, NgramDrafter, Off, Table};
use anepipe_runtime::session::{Model, Session};
use anepipe_runtime::token::TokenId;

use super::figure::Series;
use super::report::{ClassFigures, DecodeFigures};

/// Prompts, and what decoding behind them took so far.
pub(super) struct Decoding {
    prompts: Vec<Tokens>,
    tokens: usize,
    /// Whether a prompt begins with what drafts learned from the prompts before it.
    keep: bool,
    /// By class.
    classes: BTreeMap<String, Class>,
}

/// One class of prompts.
#[derive(Default)]
struct Class {
    /// Seconds a token, one a round.
    plain: Series,
    speculative: Series,
    /// Passes of the speculative side, and draft tokens that they accepted.
    passes: usize,
    accepted: usize,
    /// What a drafted pass cost in plain passes, as each generation measured it.
    cost: Series,
    /// Prompts, and how many gave the same tokens both ways in every round.
    prompts: usize,
    differing: usize,
}

/// Time and tokens of one side of a class in one round.
#[derive(Default)]
struct Spent {
    seconds: f64,
    tokens: usize,
}

impl Decoding {
    /// `tokens` tokens behind each of `prompts`; of a prompt that leaves no room for them, the end.
    pub(super) fn new(mut prompts: Vec<Tokens>, tokens: usize, keep: bool, model: &Model) -> Self {
        let most = model.context().saturating_sub(tokens).max(1);
        let mut classes: BTreeMap<String, Class> = BTreeMap::new();
        for prompt in &mut prompts {
            let surplus = prompt.ids.len().saturating_sub(most);
            prompt.ids.drain(..surplus);
            classes.entry(prompt.class.clone()).or_default().prompts += 1;
        }
        Self { prompts, tokens, keep, classes }
    }

    /// Decodes behind every prompt both ways; which comes first changes from round to round and from prompt to prompt.
    pub(super) fn round(&mut self, session: &mut Session, round: usize) -> Result<(), DecodeError> {
        let mut spent: BTreeMap<&str, [Spent; 2]> = BTreeMap::new();
        let mut learned = Learned::new(self.keep);
        for (index, prompt) in self.prompts.iter().enumerate() {
            let (plain, speculative) = if (index + round).is_multiple_of(2) {
                let plain = generate(session, prompt, self.tokens, None)?;
                (plain, generate(session, prompt, self.tokens, Some(&mut learned))?)
            } else {
                let speculative = generate(session, prompt, self.tokens, Some(&mut learned))?;
                (generate(session, prompt, self.tokens, None)?, speculative)
            };
            let sides = spent.entry(&prompt.class).or_default();
            for (side, generated) in sides.iter_mut().zip([&plain, &speculative]) {
                side.seconds += generated.statistics.decode.as_secs_f64();
                side.tokens += generated.tokens.len().saturating_sub(1);
            }
            let Some(class) = self.classes.get_mut(&prompt.class) else { continue };
            if round == 0 {
                class.passes += speculative.statistics.passes;
                class.accepted += speculative.statistics.accepted;
            }
            if let Some(cost) = speculative.statistics.cost() {
                class.cost.push(cost);
            }
            class.differing += usize::from(plain.tokens != speculative.tokens);
        }
        for (class, [plain, speculative]) in spent {
            if let Some(class) = self.classes.get_mut(class) {
                class.plain.push(plain.seconds / plain.tokens.max(1) as f64);
                class.speculative.push(speculative.seconds / speculative.tokens.max(1) as f64);
            }
        }
        Ok(())
    }

    /// What it took.
    pub(super) fn figures(self) -> DecodeFigures {
        let classes = self.classes.into_iter().filter_map(|(name, class)| {
            Some(ClassFigures {
                class: name,
                prompts: class.prompts,
                plain_tokens_per_second: class.plain.figure()?.rate(1.0),
                speculative_tokens_per_second: class.speculative.figure()?.rate(1.0),
                ratio: class.plain.over(&class.speculative).figure()?,
                tokens_per_pass: (class.passes > 0)
                    .then(|| 1.0 + class.accepted as f64 / class.passes as f64),
                cost: class.cost.figure().map(|cost| cost.median),
                equal: class.differing == 0,
            })
        });
        DecodeFigures { tokens: self.tokens, keep: self.keep, classes: classes.collect() }
    }
}

/// What drafts learned in one round, if that is kept: a table, and what passes cost and brought. A round begins with nothing, so
/// that no prompt meets its own text of another round.
struct Learned(Option<(Table, DraftGate)>);

impl Learned {
    fn new(keep: bool) -> Self {
        Self(keep.then(|| (Table::new(KEPT_RUNS), DraftGate::new())))
    }

    /// What a generation begins with.
    fn begin(&mut self) -> (NgramDrafter, Drafting) {
        match self.0.take() {
            Some((table, gate)) => (NgramDrafter::with_table(table), Drafting::Adaptive(Box::new(gate))),
            None => (NgramDrafter::new(), Drafting::Adaptive(Box::default())),
        }
    }

    /// What it ended with. A drafter that began without a table has none.
    fn end(&mut self, drafter: NgramDrafter, drafting: Drafting) {
        if let (Some(table), Drafting::Adaptive(gate)) = (drafter.into_table(), drafting) {
            self.0 = Some((table, *gate));
        }
    }
}

/// Decodes from an empty session, as `generate` would, with drafts if there is a place for what they learn; but on and on where
/// the model would end its text: a text of three tokens measures nothing.
fn generate(
    session: &mut Session,
    prompt: &Tokens,
    max_new: usize,
    learned: Option<&mut Learned>,
) -> Result<Generated, DecodeError> {
    session.rewind(0);
    let mut decode = |drafter: &mut dyn Drafter, drafting| {
        let mut decoder = Decoder { choose: Choose::Greedy, drafter, drafting, clock: &Monotonic::new() };
        let limits = Limits { max_new, end_of_text: &[] };
        let generated =
            decoder.generate(session, &prompt.ids, limits, |_: TokenId| ControlFlow::Continue(()))?;
        Ok::<_, DecodeError>((generated, decoder.drafting))
    };
    let Some(learned) = learned else { return Ok(decode(&mut Off, Drafting::Never)?.0) };
    let (mut drafter, drafting) = learned.begin();
    let (generated, drafting) = decode(&mut drafter, drafting)?;
    learned.end(drafter, drafting);
    Ok(generated)
}
