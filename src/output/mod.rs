//! Everything that leaves the process: results on stdout, messages and progress on stderr. Nothing else prints.

pub(crate) mod junit;
pub(crate) mod profile;
pub(crate) mod progress;
pub(crate) mod trace;

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::cli::{ColorChoice, Format, Global};

/// Where a command's result goes, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) verbose: bool,
    color: bool,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let color = match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        };
        Self { format: global.format, verbose: global.verbose, color }
    }

    /// Prints a result: its words, or its one JSON document.
    pub(crate) fn result<T: Serialize>(
        self,
        result: &T,
        words: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Json => line(&serde_json::to_string(result)?),
            Format::Text => line(words().trim_end()),
        }
    }

    /// Prints an error and what stands behind it.
    pub(crate) fn error(self, error: &anyhow::Error) {
        let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let (on, off) = if self.color {
            (style.render().to_string(), style.render_reset().to_string())
        } else {
            Default::default()
        };
        message(&format!("{on}error:{off} {error:#}"));
    }
}

/// Prints text that has only one form, such as a graph in dot.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    line(text.trim_end())
}

/// A part of a text that comes bit by bit, on stdout at once. An error if nobody reads any more.
pub(crate) fn part(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// One line on stdout. A reader that went away (`| head`) is not an error.
fn line(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// One line on stderr. There is nowhere to report that stderr is gone.
pub(crate) fn message(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
