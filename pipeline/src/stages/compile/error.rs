//! Why Apple's compiler could not be used.

use std::path::PathBuf;
use std::process::ExitStatus;

/// Apple's compiler is not there, or did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CompilerError {
    /// The wrong system.
    #[error(
        "the compiler `apple` is a part of Xcode, which runs on macOS only, and this is {system}; compile with --compiler portable, \
         or build on a Mac"
    )]
    System {
        /// `std::env::consts::OS`.
        system: &'static str,
    },
    /// A program could not be started.
    #[error("{doing}: starting {}: {source}; {XCODE}", program.display())]
    Start {
        /// What was being done.
        doing: String,
        /// The program.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("{doing}: {} ended with {status}: {said}; {next}", program.display())]
    Failed {
        /// What was being done.
        doing: String,
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        said: String,
        /// What to do.
        next: &'static str,
    },
    /// A program said something that is no version.
    #[error("asking {} for {what}: it says {answer:?}; {XCODE}", program.display())]
    Answer {
        /// What it was asked for.
        what: &'static str,
        /// The program.
        program: PathBuf,
        /// What it said, or the beginning of it.
        answer: String,
    },
    /// It said that all went well, and gave nothing.
    #[error(
        "compiling {} with Apple's compiler: it gave no {}; compile with --compiler portable, and please report it",
        package.display(), expected.display()
    )]
    Nothing {
        /// What was compiled.
        package: PathBuf,
        /// Where the result should be.
        expected: PathBuf,
    },
    /// Its result could not be moved into place.
    #[error("compiling with Apple's compiler: {0}")]
    Io(#[from] std::io::Error),
}

/// Where the programs come from.
pub(super) const XCODE: &str = "install Xcode (the command line tools alone have no Core ML compiler), choose it with \
     `sudo xcode-select -s /Applications/Xcode.app`, or compile with --compiler portable";
