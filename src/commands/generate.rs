//! `anepipe generate`: decodes with a bundle, and streams.

use std::io::Read as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use anepipe_pipeline::config::Config;
use anepipe_runtime::bundle::manifest::Role;
use anepipe_runtime::bundle::{Bundle, Parts};
use anepipe_runtime::decode::{
    Choose, Decoder, Drafting, End, Generated, Limits, Monotonic, Sampling, Statistics,
};
use anepipe_runtime::device::Device;
use anepipe_runtime::draft::{Drafter, KEPT_RUNS, NgramDrafter, Off, Table};
use anepipe_runtime::session::{Model, Session};
use anepipe_runtime::token::TokenId;
use anepipe_runtime::tokenizer::{Encode, Message, StopStrings, Tokenizer};
use serde::Serialize;

use super::bundle;
use super::device::{self, tell_loads};
use crate::cli::{self, Drafts, Format, Global};
use crate::exit::{Exit, Failed};
use crate::output::profile::{Profile, Shape};
use crate::output::{self, Output};

/// What `generate --format json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    schema: u32,
    prompt_ids: &'a [TokenId],
    tokens: &'a [TokenId],
    text: &'a str,
    end: &'static str,
    /// The stop string or the end-of-text token that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    stats: Stats,
}

#[derive(Serialize)]
struct Stats {
    draft: &'static str,
    passes: usize,
    plain_passes: usize,
    drafted_passes: usize,
    proposed: usize,
    accepted: usize,
    tokens_per_pass: Option<f64>,
    tokens_per_second: Option<f64>,
    seconds_to_first_token: f64,
    prefill_passes: usize,
    /// What a pass over a draft costs, in passes over one token.
    cost: Option<f64>,
}

pub(crate) fn run(global: &Global, arguments: &cli::Generate, output: Output) -> anyhow::Result<Exit> {
    let config = Config::read(&global.config)?;
    let profile = arguments.trace.as_ref().map(|_| Arc::new(Profile::new()));
    let device = open_device(arguments, profile.clone())?;
    let choose = Choose::new(&sampling(arguments)).map_err(|error| Failed::usage(error.to_string()))?;
    let bundle = bundle::open(arguments.bundle.as_ref(), &config, global)?;
    let parts = bundle.parts()?;
    if let Some(profile) = &profile {
        profile.about(shape(&bundle, &parts));
    }
    let tokenizer = Tokenizer::read(&parts.tokenizer)?;
    let prompt = prompt(arguments, &tokenizer)?;
    let mut session = Session::new(&Arc::new(Model::open(&parts, &*device)?))?;
    let (generated, shown, draft) = {
        let mut drafts = Source::new(arguments, &tokenizer)?;
        let mut shown = Shown::new(&tokenizer, &prompt, arguments, output.format);
        let generated =
            decode(&mut session, &prompt, choose, arguments, &tokenizer, &mut drafts, &mut shown)?;
        shown.finish();
        let name = drafts.name();
        drafts.keep(arguments, &tokenizer)?;
        (generated, shown, name)
    };
    tell_loads(&*device);
    if let (Some(path), Some(profile)) = (&arguments.trace, profile) {
        fs_err::write(path, serde_json::to_vec(&profile.trace())?)?;
        output::message(profile.table().trim_end());
    }
    report(&prompt, &generated, &shown, draft, output)?;
    Ok(Exit::Ok)
}

fn open_device(arguments: &cli::Generate, profile: Option<Arc<Profile>>) -> anyhow::Result<Box<dyn Device>> {
    match profile {
        Some(profile) => device::open_profiled(arguments.runs, profile),
        None => Ok(device::open(arguments.runs)?),
    }
}

/// What a profile needs to know of the bundle.
fn shape(bundle: &Bundle, parts: &Parts) -> Shape {
    let shards = bundle.manifest().shards.iter().filter(|shard| shard.role == Role::Layers);
    let firsts = shards.map(|shard| shard.range[0]);
    Shape { shards: parts.layers.iter().cloned().zip(firsts).collect(), block: parts.block }
}

fn sampling(arguments: &cli::Generate) -> Sampling {
    let &cli::Generate { temperature, top_k, top_p, min_p, seed, .. } = arguments;
    Sampling { temperature, top_k, top_p, min_p, seed }
}

/// The tokens to go on from.
fn prompt(arguments: &cli::Generate, tokenizer: &Tokenizer) -> anyhow::Result<Vec<TokenId>> {
    let text = match (&arguments.prompt, &arguments.prompt_ids) {
        (_, Some(ids)) => return Ok(ids.clone()),
        (Some(text), None) if text == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        (Some(text), None) => text.clone(),
        (None, None) => String::new(),
    };
    if !arguments.chat {
        return Ok(tokenizer.encode(&text, Encode { parse_special: false, add_special: true }));
    }
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let mut messages: Vec<Message> =
        arguments.system.iter().map(|content| message("system", content)).collect();
    messages.push(message("user", &text));
    Ok(tokenizer.encode_chat(&messages, true)?)
}

fn decode(
    session: &mut Session,
    prompt: &[TokenId],
    choose: Choose,
    arguments: &cli::Generate,
    tokenizer: &Tokenizer,
    drafts: &mut Source,
    shown: &mut Shown<'_>,
) -> anyhow::Result<Generated> {
    let vocab = session.model().vocab() as TokenId;
    let ends: Vec<TokenId> = if arguments.ignore_eos {
        Vec::new()
    } else {
        (0..vocab).filter(|&token| tokenizer.is_end(token)).collect()
    };
    let clock = Monotonic::new();
    let drafting = match drafts {
        Source::Off => Drafting::Never,
        Source::Ngram(_) => Drafting::Adaptive(Box::default()),
    };
    let mut off = Off;
    let drafter: &mut dyn Drafter = match drafts {
        Source::Off => &mut off,
        Source::Ngram(ngram) => ngram.as_mut(),
    };
    let mut decoder = Decoder { choose, drafter, drafting, clock: &clock };
    let limits = Limits { max_new: arguments.max_new, end_of_text: &ends };
    let generated = decoder.generate(session, prompt, limits, |token| shown.push(token))?;
    Ok(generated)
}

/// The drafter that was asked for.
enum Source {
    Off,
    Ngram(Box<NgramDrafter>),
}

impl Source {
    fn new(arguments: &cli::Generate, tokenizer: &Tokenizer) -> anyhow::Result<Self> {
        Ok(match (arguments.draft, &arguments.draft_table) {
            (Drafts::Off, _) => Self::Off,
            (Drafts::Ngram, None) => Self::Ngram(Box::default()),
            (Drafts::Ngram, Some(path)) => {
                let table = Table::read(path, tokenizer.digest(), KEPT_RUNS)?;
                Self::Ngram(Box::new(NgramDrafter::with_table(table)))
            }
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Off => Off.name(),
            Self::Ngram(ngram) => ngram.name(),
        }
    }

    /// Writes what was learned to the table's file, if there is to be one.
    fn keep(self, arguments: &cli::Generate, tokenizer: &Tokenizer) -> anyhow::Result<()> {
        if let (Self::Ngram(ngram), Some(path)) = (self, &arguments.draft_table)
            && let Some(table) = ngram.into_table()
        {
            table.write(path, tokenizer.digest())?;
        }
        Ok(())
    }
}

/// The text so far, and what of it has been shown.
struct Shown<'t> {
    stream: anepipe_runtime::tokenizer::TextStream<'t>,
    stops: StopStrings,
    text: String,
    /// Whether the text is printed as it comes.
    live: bool,
}

impl<'t> Shown<'t> {
    fn new(tokenizer: &'t Tokenizer, prompt: &[TokenId], arguments: &cli::Generate, format: Format) -> Self {
        Self {
            stream: tokenizer.stream_after(prompt),
            stops: StopStrings::new(arguments.stop.iter().cloned()),
            text: String::new(),
            live: format == Format::Text,
        }
    }

    /// Takes the next token; breaks where a stop string ends the text or nobody reads it any more.
    fn push(&mut self, token: TokenId) -> ControlFlow<()> {
        // A model may have logits for more tokens than the vocabulary spells; those say nothing.
        let text = self.stream.push(token).unwrap_or_default();
        let text = self.stops.push(&text);
        self.show(&text)?;
        if self.stops.found().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Shows what was held back.
    fn finish(&mut self) {
        let rest = self.stream.finish();
        let rest = self.stops.push(&rest) + &self.stops.finish();
        let _ = self.show(&rest);
        if self.live {
            let _ = output::part("\n");
        }
    }

    fn show(&mut self, text: &str) -> ControlFlow<()> {
        self.text.push_str(text);
        if self.live && !text.is_empty() && output::part(text).is_err() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

fn report(
    prompt: &[TokenId],
    generated: &Generated,
    shown: &Shown<'_>,
    draft: &'static str,
    output: Output,
) -> anyhow::Result<()> {
    let (end, stop) = match generated.end {
        End::MaxNew => ("max_new", None),
        End::EndOfText(token) => ("end_of_text", Some(token.to_string())),
        End::ContextFull => ("context_full", None),
        End::Stopped => ("stop", shown.stops.found().map(str::to_owned)),
    };
    let statistics = &generated.statistics;
    if generated.end == End::ContextFull {
        output::message("the context is full; a bundle built with a larger --context goes on for longer");
    }
    if output.verbose {
        output::message(&words(statistics, end));
    }
    if output.format == Format::Text {
        return Ok(());
    }
    let answer = Answer {
        schema: 1,
        prompt_ids: prompt,
        tokens: &generated.tokens,
        text: &shown.text,
        end,
        stop,
        stats: Stats {
            draft,
            passes: statistics.passes,
            plain_passes: statistics.plain_passes,
            drafted_passes: statistics.drafted_passes,
            proposed: statistics.proposed,
            accepted: statistics.accepted,
            tokens_per_pass: statistics.tokens_per_pass(),
            tokens_per_second: statistics.tokens_per_second(),
            seconds_to_first_token: statistics.time_to_first_token.as_secs_f64(),
            prefill_passes: statistics.prefill_passes,
            cost: statistics.cost(),
        },
    };
    output.result(&answer, String::new)
}

/// The statistics in one line.
fn words(statistics: &Statistics, end: &str) -> String {
    let figure = |value: Option<f64>, unit: &str| {
        value.map(|value| format!(", {value:.2} {unit}")).unwrap_or_default()
    };
    format!(
        "{} tokens ({end}), {} passes, {} of {} draft tokens accepted{}{}, first token after {:.3} s",
        statistics.tokens,
        statistics.passes,
        statistics.accepted,
        statistics.proposed,
        figure(statistics.tokens_per_pass(), "tokens per pass"),
        figure(statistics.tokens_per_second(), "tokens per second"),
        statistics.time_to_first_token.as_secs_f64(),
    )
}
