//! The `anepipe` command: arguments in, one call into the library, a report and an exit code out.

mod bench;
mod cli;
mod commands;
mod exit;
mod output;
mod report;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::exit::exit_of_any;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::PythonWorker = cli.command {
        return anepipe_pipeline::python::worker_main();
    }
    let output = Output::new(&cli.global);
    match commands::run(&cli, output) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output.error(&error);
            exit_of_any(&error).into()
        }
    }
}
