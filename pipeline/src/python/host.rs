//! The host's side of a worker.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::environment::PythonEnvironment;
use super::error::{Details, PythonError};
use super::frame;
use super::process::{Killer, NoAnswer, Process};
use super::protocol::{Failure, Outcome, Request, Response, START, Start};
use super::version::PythonVersion;

/// How workers are started and how long they may take.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// The program whose [`super::worker_main`] runs; none is this program itself.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The time Python may take to start.
    pub start_timeout: Duration,
    /// The time a call may take; none is no limit.
    pub call_timeout: Option<Duration>,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            program: None,
            arguments: vec![OsString::from("python-worker")],
            start_timeout: Duration::from_mins(1),
            call_timeout: Some(Duration::from_mins(30)),
        }
    }
}

/// A process that runs Python stages, one call at a time. Ended when dropped, and when this process ends.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    options: WorkerOptions,
    last_id: u64,
    usable: bool,
}

impl Worker {
    /// Starts a worker of this program on `environment`.
    pub fn spawn(environment: &PythonEnvironment) -> Result<Self, PythonError> {
        Self::spawn_with(environment, WorkerOptions::default())
    }

    /// Starts a worker on `environment` and waits until Python runs in it.
    pub fn spawn_with(environment: &PythonEnvironment, options: WorkerOptions) -> Result<Self, PythonError> {
        let program = match &options.program {
            Some(program) => program.clone(),
            None => env::current_exe()
                .map_err(|error| PythonError::Spawn { program: PathBuf::from("anepipe"), error })?,
        };
        let process = Process::spawn(Command::new(&program).args(&options.arguments))
            .map_err(|error| PythonError::Spawn { program, error })?;
        let mut worker = Self { process, options, last_id: 0, usable: true };
        worker.start(environment)?;
        Ok(worker)
    }

    fn start(&mut self, environment: &PythonEnvironment) -> Result<(), PythonError> {
        let start = Start {
            home: environment.home().to_owned(),
            site_packages: environment.site_packages().to_owned(),
        };
        let not_sent = |error: serde_json::Error| PythonError::Request {
            method: START.to_owned(),
            reason: error.to_string(),
        };
        let params = serde_json::to_value(&start).map_err(not_sent)?;
        let within = Some(self.options.start_timeout);
        let running = match self.exchange(START, &params, within)? {
            Outcome::Ok(answer) => {
                answer.get("python").and_then(Value::as_str).and_then(PythonVersion::parse)
            }
            Outcome::Error(failure) => {
                let details = self.details(failure.traceback);
                return Err(PythonError::Start { reason: failure.message, details });
            }
        };
        match running {
            Some(running) if running == PythonVersion::running() => Ok(()),
            Some(running) => Err(PythonError::Library { built: PythonVersion::built(), running }),
            None => Err(self.broken(START, "it does not name Python's version".to_owned())),
        }
    }

    /// Runs the stage `method` with `params`, an object, within the options' time.
    ///
    /// After an exception the worker can be used again; after every other error it has ended ([`Self::is_usable`]).
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, PythonError> {
        // What was said before belongs to an earlier call. Not so at the start, where the first words may be the last.
        self.process.stderr().clear();
        match self.exchange(method, params, self.options.call_timeout)? {
            Outcome::Ok(value) => Ok(value),
            Outcome::Error(Failure { kind, message, traceback, errno }) => {
                if let Some(errno) = errno {
                    let (method, error) = (method.to_owned(), io::Error::from_raw_os_error(errno));
                    return Err(PythonError::System { method, message, error });
                }
                let (method, details) = (method.to_owned(), self.details(traceback));
                if matches!(kind.as_str(), "ImportError" | "ModuleNotFoundError") {
                    return Err(PythonError::Import { method, message, details });
                }
                Err(PythonError::Exception { method, kind, message, details })
            }
        }
    }

    /// Whether the worker can take another call.
    pub fn is_usable(&self) -> bool {
        self.usable && !self.process.was_cancelled()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The most memory the worker has held so far, in bytes; none where the system does not tell.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// Something that ends the worker from another thread, for builds that are cancelled.
    pub fn handle(&self) -> WorkerHandle {
        WorkerHandle(self.process.killer())
    }

    /// One request and its response.
    fn exchange(
        &mut self,
        method: &str,
        params: &Value,
        within: Option<Duration>,
    ) -> Result<Outcome, PythonError> {
        if !self.usable {
            return Err(PythonError::Ended { method: method.to_owned() });
        }
        let id = self.last_id + 1;
        let request = Request { id, method: method.to_owned(), params: params.clone() };
        let payload = serde_json::to_vec(&request).map_err(std::io::Error::from);
        let payload = payload.and_then(|payload| frame::length_of(&payload).map(|_| payload));
        let payload = payload
            .map_err(|error| PythonError::Request { method: method.to_owned(), reason: error.to_string() })?;
        self.last_id = id;
        self.process.send(payload);
        let frame = match self.process.receive(within) {
            Ok(frame) => frame,
            Err(why) => return Err(self.no_answer(method, why, within.unwrap_or_default())),
        };
        match serde_json::from_slice::<Response>(&frame) {
            Ok(response) if response.id == id => Ok(response.outcome),
            Ok(response) => Err(self.broken(method, format!("it answers request {}, not {id}", response.id))),
            Err(error) => Err(self.broken(method, error.to_string())),
        }
    }

    fn no_answer(&mut self, method: &str, why: NoAnswer, after: Duration) -> PythonError {
        let method = method.to_owned();
        self.usable = false;
        match why {
            NoAnswer::Garbage(error) => self.broken(&method, error.to_string()),
            NoAnswer::Late => {
                self.process.kill();
                PythonError::TimedOut { method, after, details: self.last_words() }
            }
            NoAnswer::Closed => {
                let ending = self.process.finish();
                if self.process.was_cancelled() {
                    return PythonError::Cancelled { method };
                }
                PythonError::Crashed { method, ending, details: self.last_words() }
            }
        }
    }

    /// The error of an answer that is none; the worker is ended, for nothing it says later can be trusted.
    fn broken(&mut self, method: &str, reason: String) -> PythonError {
        self.usable = false;
        self.process.kill();
        PythonError::Protocol { method: method.to_owned(), reason, details: self.last_words() }
    }

    fn details(&self, traceback: String) -> Details {
        Details { traceback, stderr: self.process.stderr().text() }
    }

    fn last_words(&self) -> Details {
        Details { traceback: String::new(), stderr: self.process.stderr().last_words() }
    }
}

/// Ends a worker from another thread; its call then fails with [`PythonError::Cancelled`].
#[derive(Debug, Clone)]
pub struct WorkerHandle(Killer);

impl WorkerHandle {
    /// Ends the worker.
    pub fn cancel(&self) {
        self.0.kill();
    }
}

/// A path as the text a request carries; Python runs in UTF-8 mode.
pub(crate) fn path_text<'a>(method: &str, path: &'a Path) -> Result<&'a str, PythonError> {
    path.to_str().ok_or_else(|| PythonError::Request {
        method: method.to_owned(),
        reason: format!("the path {} is not UTF-8", path.display()),
    })
}
