//! `anepipe graph`: the actions of a build and what they need.

use std::fmt::Write as _;

use anepipe_pipeline::action::ActionGraph;
use anepipe_pipeline::build::{self, Model};
use anepipe_pipeline::config::Config;
use serde_json::json;

use crate::cli::{Global, Graph, GraphStyle};
use crate::exit::Exit;

pub(crate) fn run(global: &Global, arguments: &Graph) -> anyhow::Result<Exit> {
    let config = Config::read(&global.config)?;
    let options = super::build::options(&arguments.target, &config)?;
    let model = Model::open(&options.model, options.context)?;
    let store = super::store(global)?;
    let workers = super::build::workers(global, &config)?;
    let plan = build::plan(&model, &options, &store, &workers)?;
    crate::output::text(&draw(&plan.graph, arguments.style))?;
    Ok(Exit::Ok)
}

fn draw(graph: &ActionGraph<'_>, style: GraphStyle) -> String {
    let labels = graph.labels();
    let edges: Vec<(usize, usize)> = graph
        .actions()
        .iter()
        .enumerate()
        .flat_map(|(to, action)| action.needs().into_iter().map(move |from| (from.0, to)))
        .collect();
    let mut text = String::new();
    // Writing to a string cannot fail.
    match style {
        GraphStyle::Json => {
            let actions: Vec<_> = labels
                .iter()
                .enumerate()
                .map(|(id, label)| json!({"id": id, "stage": label.stage, "subject": label.subject}))
                .collect();
            let _ = write!(text, "{}", json!({"schema": 1, "actions": actions, "edges": edges}));
        }
        GraphStyle::Dot => {
            text.push_str("digraph build {\n  rankdir=LR; node [shape=box];\n");
            for (id, label) in labels.iter().enumerate() {
                let _ = writeln!(text, "  a{id} [label=\"{label}\"];");
            }
            for (from, to) in edges {
                let _ = writeln!(text, "  a{from} -> a{to};");
            }
            text.push('}');
        }
        GraphStyle::Mermaid => {
            text.push_str("graph LR\n");
            for (id, label) in labels.iter().enumerate() {
                let _ = writeln!(text, "  a{id}[\"{label}\"]");
            }
            for (from, to) in edges {
                let _ = writeln!(text, "  a{from} --> a{to}");
            }
        }
    }
    text
}
