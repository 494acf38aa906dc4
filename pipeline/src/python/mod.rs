//! Python workers: coremltools in a process of its own.
//!
//! [`PythonEnvironment`] finds the packages to use, and what they are, without starting Python. [`Worker`] runs stages on
//! them: a process of this same program that embeds `CPython` and answers length-prefixed JSON on its standard streams. A
//! crash of Python is an error of one call, and several workers can run at once. The Python sources are part of the
//! program; they are imported from memory.
//!
//! The Python library is that of the build ([`PythonVersion::built`]); the build script records where it is.

mod environment;
mod error;
mod frame;
mod host;
mod importer;
mod interpreter;
mod packages;
mod process;
mod protocol;
mod sources;
mod stderr;
mod version;
mod worker;

pub use environment::{EnvironmentSource, Lookup, PythonEnvironment};
pub use error::{Details, Ending, PythonError};
pub(crate) use host::path_text;
pub use host::{Worker, WorkerHandle, WorkerOptions};
pub use packages::{COREMLTOOLS, Fingerprint};
pub use version::PythonVersion;
pub use worker::worker_main;
