//! `anepipe explain`, and `build --dry-run`: what would run, and why.

use std::fmt::Write as _;

use anepipe_artifacts::Store;
use anepipe_pipeline::build::{self, Fate, Model, Plan, Preview};
use anepipe_pipeline::config::Config;
use serde::Serialize;

use crate::cli::{Explain, Global};
use crate::exit::Exit;
use crate::output::Output;

#[derive(Serialize)]
struct Explained {
    schema: u32,
    actions: Vec<Preview>,
}

pub(crate) fn run(global: &Global, arguments: &Explain, output: Output) -> anyhow::Result<Exit> {
    let config = Config::read(&global.config)?;
    let options = super::build::options(&arguments.target, &config)?;
    let model = Model::open(&options.model, options.context)?;
    let store = super::store(global)?;
    let workers = super::build::workers(global, &config)?;
    let plan = build::plan(&model, &options, &store, &workers)?;
    report(&plan, &store, arguments.action.as_deref(), output)
}

/// Prints the fate of every action whose name contains `only`.
pub(crate) fn report(
    plan: &Plan<'_>,
    store: &Store,
    only: Option<&str>,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut actions = build::preview(plan, store)?;
    actions.retain(|preview| only.is_none_or(|only| preview.label.to_string().contains(only)));
    let explained = Explained { schema: 1, actions };
    output.result(&explained, || words(&explained.actions))?;
    Ok(Exit::Ok)
}

fn words(actions: &[Preview]) -> String {
    let mut text = String::new();
    let (mut reuse, mut run, mut follow) = (0, 0, 0);
    for Preview { label, fate } in actions {
        let line = match fate {
            Fate::Reuse => {
                reuse += 1;
                "in the store".to_owned()
            }
            Fate::Run { reasons } => {
                run += 1;
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                format!("would run: {}", reasons.join("; "))
            }
            Fate::Follow { after } => {
                follow += 1;
                format!("follows {}", after.join(", "))
            }
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{label}: {line}");
    }
    let _ = write!(text, "{run} would run, {follow} follow from them, {reuse} are in the store");
    text
}
