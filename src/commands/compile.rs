//! `anepipe compile`

use std::path::PathBuf;

use anepipe_mil::compile::{CompileOptions, compile};
use serde::Serialize;

use crate::cli::Compile;
use crate::exit::Exit;
use crate::output::Output;

#[derive(Serialize)]
struct Compiled<'a> {
    schema: u32,
    out: &'a PathBuf,
    files: std::collections::BTreeMap<PathBuf, u64>,
}

pub(crate) fn run(arguments: &Compile, output: Output) -> anyhow::Result<Exit> {
    let report = compile(&arguments.package, &arguments.out, &CompileOptions::default())?;
    let compiled = Compiled { schema: 1, out: &arguments.out, files: report.files };
    output.result(&compiled, || {
        let bytes: u64 = compiled.files.values().sum();
        let size = indicatif::HumanBytes(bytes);
        format!("{}: {} files, {size}", compiled.out.display(), compiled.files.len())
    })?;
    Ok(Exit::Ok)
}
