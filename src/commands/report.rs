//! `anepipe report`

use std::path::Path;

use anepipe_pipeline::config::Config;
use serde::Serialize;

use super::bundle;
use crate::cli::{self, Global};
use crate::exit::Exit;
use crate::output::Output;
use crate::report::{Destination, Evidence, page};

/// What `report --format json` prints.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    out: &'a Path,
}

pub(crate) fn run(global: &Global, arguments: &cli::Report, output: Output) -> anyhow::Result<Exit> {
    let destination = Destination::new(&arguments.out)?;
    let config = Config::read(&global.config)?;
    let bundle = bundle::open(arguments.bundle.as_ref(), &config, global)?;
    destination.write(&page(&Evidence::read(&bundle)?))?;
    let written = Written { schema: 1, out: &arguments.out };
    output.result(&written, || format!("report: {}", written.out.display()))?;
    Ok(Exit::Ok)
}
