//! One module a command. Each reads its arguments, calls the library once, and reports.

mod bench;
mod build;
mod bundle;
mod cache;
mod compile;
mod device;
mod explain;
mod fault;
mod gate;
mod generate;
mod graph;
mod inspect;
mod report;

use std::path::PathBuf;

use anepipe_artifacts::Store;

use crate::cli::{Cli, Command, Global};
use crate::exit::{Exit, Failed};
use crate::output::Output;

pub(crate) fn run(cli: &Cli, output: Output) -> anyhow::Result<Exit> {
    let global = &cli.global;
    match &cli.command {
        Command::Build(arguments) => build::run(global, arguments, output),
        Command::Gate(arguments) => gate::run(global, arguments, output),
        Command::Generate(arguments) => generate::run(global, arguments, output),
        Command::Bench(arguments) => bench::run(global, arguments, output),
        Command::Explain(arguments) => explain::run(global, arguments, output),
        Command::Graph(arguments) => graph::run(global, arguments),
        Command::Cache(arguments) => cache::run(global, arguments, output),
        Command::Inspect(arguments) => inspect::run(arguments, output),
        Command::Compile(arguments) => compile::run(arguments, output),
        Command::Report(arguments) => report::run(global, arguments, output),
        Command::PythonWorker => Ok(Exit::Ok),
    }
}

/// The store's folder, by the options.
fn store_folder(global: &Global) -> anyhow::Result<PathBuf> {
    let default = || anepipe_artifacts::default_dir(|name| std::env::var_os(name));
    let folder = global.cache_dir.clone().or_else(default);
    folder
        .ok_or_else(|| Failed::usage("there is no home folder to keep the store in; give --cache-dir").into())
}

/// Opens the store that the options name.
fn store(global: &Global) -> anyhow::Result<Store> {
    Ok(Store::open(store_folder(global)?)?)
}
