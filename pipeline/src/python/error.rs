//! What can go wrong between a stage and Python.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::environment::EnvironmentSource;
use super::version::PythonVersion;

/// How an environment is made, said wherever one is missing or unfit.
macro_rules! remedy {
    () => {
        "run `make setup`, or `python3 -m venv .venv` and \
         `.venv/bin/python -m pip install --require-hashes -r requirements.txt`"
    };
}

/// An error of the Python environment or of a worker.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// No environment is named anywhere and none lies where one is looked for.
    #[error(
        "looking for a Python environment with coremltools: there is none at {}; {}, or name one in ANEPIPE_PYTHON",
        Paths(looked), remedy!()
    )]
    NoEnvironment {
        /// The folders that do not exist.
        looked: Vec<PathBuf>,
    },
    /// The environment that is named is not one.
    #[error("the Python environment {} ({source_of}) is not usable: {reason}; {}", path.display(), remedy!())]
    BadEnvironment {
        /// The environment's folder.
        path: PathBuf,
        /// Who named it.
        source_of: EnvironmentSource,
        /// What is wrong with it.
        reason: String,
    },
    /// The environment is for another Python than the one in this program.
    #[error(
        "the Python environment {} ({source_of}) is for Python {found}, but this program embeds Python {built}: \
         make it with that Python, or rebuild with PYO3_PYTHON={}/bin/python", path.display(), path.display()
    )]
    OtherPython {
        /// The environment's folder.
        path: PathBuf,
        /// Who named it.
        source_of: EnvironmentSource,
        /// The environment's Python.
        found: PythonVersion,
        /// The Python this program was built with.
        built: PythonVersion,
    },
    /// A package is absent, or is not of the version this program is made for.
    #[error(
        "the Python environment {} has {}, but anepipe needs {package}{}: run \
         `{}/bin/python -m pip install --require-hashes -r requirements.txt` (or `make setup`)",
        root.display(), Found(package, found), Wanted(*wanted), root.display()
    )]
    Package {
        /// The environment's folder.
        root: PathBuf,
        /// The package.
        package: &'static str,
        /// The versions that are installed; more than one is a broken installation.
        found: Vec<String>,
        /// The only version that will do, if it is one.
        wanted: Option<&'static str>,
    },
    /// The Python library that was loaded is not the one this program was built for.
    #[error(
        "this program was built for Python {built} but loaded the library of Python {running}: take LD_LIBRARY_PATH \
         out of the environment, or rebuild with PYO3_PYTHON"
    )]
    Library {
        /// The Python this program was built with.
        built: PythonVersion,
        /// The library's own version.
        running: PythonVersion,
    },
    /// The worker's process could not be started.
    #[error("starting the Python worker {}: {error}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The operating system's reason.
        #[source]
        error: io::Error,
    },
    /// Python did not start inside the worker.
    #[error("starting Python in a worker: {reason}{details}")]
    Start {
        /// What failed.
        reason: String,
        /// What Python said.
        details: Details,
    },
    /// An import failed inside a stage although the packages seemed to be there.
    #[error("the Python stage `{method}` cannot import what it needs: {message}; {}{details}", remedy!())]
    Import {
        /// The stage.
        method: String,
        /// Python's message.
        message: String,
        /// Traceback and the worker's last words.
        details: Details,
    },
    /// The system refused a stage something, such as room for a file.
    #[error("the Python stage `{method}`: {message}")]
    System {
        /// The stage.
        method: String,
        /// Python's message; names the file.
        message: String,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// A stage raised an exception.
    #[error("the Python stage `{method}` failed: {kind}: {message}{details}")]
    Exception {
        /// The stage.
        method: String,
        /// The exception's type.
        kind: String,
        /// The exception's message.
        message: String,
        /// Traceback and the worker's last words.
        details: Details,
    },
    /// The worker ended before it answered.
    #[error("the Python worker {ending} during `{method}`{details}")]
    Crashed {
        /// The stage.
        method: String,
        /// How the process ended.
        ending: Ending,
        /// The worker's last words.
        details: Details,
    },
    /// The worker did not answer in time and was ended.
    #[error("the Python stage `{method}` did not finish within {} s and was ended{details}", after.as_secs_f64())]
    TimedOut {
        /// The stage.
        method: String,
        /// The time it had.
        after: Duration,
        /// The worker's last words.
        details: Details,
    },
    /// The call was ended through a [`super::WorkerHandle`].
    #[error("the Python stage `{method}` was cancelled")]
    Cancelled {
        /// The stage.
        method: String,
    },
    /// What the worker sent is not an answer; it was ended.
    #[error("the Python worker's answer to `{method}` is not one: {reason}; it was ended{details}")]
    Protocol {
        /// The stage.
        method: String,
        /// What is wrong with it.
        reason: String,
        /// The worker's last words.
        details: Details,
    },
    /// The worker has ended in an earlier call and cannot be used again.
    #[error("`{method}` was sent to a Python worker that has ended")]
    Ended {
        /// The stage.
        method: String,
    },
    /// A request is larger than the protocol allows or cannot be written as JSON.
    #[error("the parameters of `{method}` cannot be sent to a Python worker: {reason}")]
    Request {
        /// The stage.
        method: String,
        /// Why not.
        reason: String,
    },
}

impl PythonError {
    /// The program's exit code for this error: 31 where a worker's process failed, 30 where Python or its packages did.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Crashed { .. }
            | Self::TimedOut { .. }
            | Self::Cancelled { .. }
            | Self::Protocol { .. }
            | Self::Ended { .. } => 31,
            _ => 30,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By this signal.
    Signal(i32),
    /// By itself, with this code.
    Exit(i32),
    /// It closed its answers and did not end; it was ended.
    Hung,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(9) => f.write_str(
                "was killed by signal 9 (SIGKILL), which is how the system ends a process when memory runs out",
            ),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::Exit(code) => write!(f, "ended with exit code {code}"),
            Self::Hung => f.write_str("stopped answering and was ended"),
        }
    }
}

/// What Python said about a failure: shown indented below the message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The traceback, empty if there is none.
    pub traceback: String,
    /// The end of what the worker wrote to its standard error.
    pub stderr: String,
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, text) in [("traceback", &self.traceback), ("the worker's standard error", &self.stderr)] {
            if !text.trim().is_empty() {
                write!(f, "\n  {title}:")?;
                for line in text.trim_end().lines() {
                    write!(f, "\n    {line}")?;
                }
            }
        }
        Ok(())
    }
}

/// A list of paths, or "no place at all".
struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(paths) = self;
        for (index, path) in paths.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { ", " }, path.display())?;
        }
        if paths.is_empty() { f.write_str("any place") } else { Ok(()) }
    }
}

/// The installed versions of a package in words.
struct Found<'a>(&'a str, &'a [String]);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(package, versions) = self;
        if versions.is_empty() {
            write!(f, "no {package}")
        } else {
            write!(f, "{package} {}", versions.join(" and "))
        }
    }
}

/// The version that is needed, with a space before it.
struct Wanted(Option<&'static str>);

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |version| write!(f, " {version}"))
    }
}
