//! `anepipe gate parity`.

use anepipe_pipeline::config::Config;
use anepipe_pipeline::stages::parity::{self, JudgedReport, ParityTask};
use anepipe_runtime::bundle::manifest::Role;
use serde::Serialize;

use crate::cli::{GateParity, Global};
use crate::commands::bundle;
use crate::commands::device::{self, tell_loads};
use crate::exit::{Exit, Failed};
use crate::output::Output;

#[derive(Serialize)]
struct Gated {
    schema: u32,
    pass: bool,
    shards: Vec<JudgedReport>,
}

pub(super) fn run(global: &Global, arguments: &GateParity, output: Output) -> anyhow::Result<Exit> {
    let config = Config::read(&global.config)?;
    let device = device::open(arguments.runs)?;
    let bundle = bundle::open(arguments.bundle.as_ref(), &config, global)?;
    let manifest = bundle.manifest();
    let token_embeddings = bundle.resolve(&manifest.token_embeddings)?;
    let mut shards = Vec::new();
    for shard in &manifest.shards {
        let task = ParityTask {
            name: shard.path.clone(),
            block: manifest.block,
            widths: manifest.widths.clone(),
            rope: (shard.role == Role::Layers).then(|| manifest.rope.clone()),
            thresholds: config.gates.parity,
        };
        shards.push(parity::run(&*device, &bundle.resolve(&shard.path)?, &token_embeddings, &task)?);
    }
    tell_loads(&*device);
    let gated = Gated { schema: 1, pass: shards.iter().all(|shard| shard.report.pass), shards };
    output.result(&gated, || {
        gated.shards.iter().map(|shard| shard.report.to_string()).collect::<Vec<_>>().join("\n")
    })?;
    for reason in gated.shards.iter().filter_map(|shard| shard.reason.clone()) {
        output.error(&Failed::new(format!("the parity gate did not pass: {reason}")).into());
    }
    Ok(if gated.pass { Exit::Ok } else { Exit::Parity })
}
