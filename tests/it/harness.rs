//! A folder of its own for each test, and the command run inside it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anepipe_testkit::Encoding;
use anepipe_testkit::synth::{Dimensions, Synth};

use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_anepipe");

/// A folder with a store, in which the command runs.
pub(crate) struct Place {
    dir: TempDir,
}

/// How one run of the command ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command with this place's store, ready for more.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.current_dir(self.dir.path()).args(arguments);
        command.env("ANEPIPE_CACHE_DIR", self.path("store")).env_remove("ANEPIPE_FAULT");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// `build` into the folder `out` with the answer in JSON.
    pub(crate) fn build_command(&self, model: &Path, more: &[&str]) -> Command {
        let mut command = self.command(&["build", "--out", "out", "--format", "json", "--model"]);
        command.arg(model).args(more);
        command
    }

    pub(crate) fn build(&self, model: &Path, more: &[&str]) -> Ran {
        Ran::of(&mut self.build_command(model, more))
    }

    /// Builds and gives the actions that were started, as `stage subject`.
    pub(crate) fn started_by(&self, model: &Path, more: &[&str]) -> BTreeSet<String> {
        let log = self.path("events.ndjson");
        Ran::of(self.build_command(model, more).arg("--events").arg(&log)).expect_ok();
        started(&log)
    }

    /// Writes the tiny model, changed.
    pub(crate) fn synth(&self, name: &str, change: impl FnOnce(Synth) -> Synth) -> PathBuf {
        let path = self.path(name);
        let model = Synth::new(Dimensions::tiny(), Encoding::Q8_0, 1).unwrap();
        change(model).write(&path).unwrap();
        path
    }

    /// Fails the test unless every object of the store is what its name says.
    pub(crate) fn assert_sound(&self) {
        let verified = self.run(&["cache", "verify"]);
        assert_eq!(verified.code, 0, "the store is damaged: {}{}", verified.stdout, verified.stderr);
    }
}

impl Ran {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Self {
            code: output.status.code().expect("the command was killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(!ran.stderr.contains("panicked"), "it panicked: {}", ran.stderr);
        ran
    }

    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn expect_ok(self) -> Self {
        self.expect_code(0)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON: {error}: {}", self.stdout))
    }

    /// One of the counts of `build`.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.json()["stages"][name].as_u64().unwrap()
    }
}

/// The actions that an event log says were started.
pub(crate) fn started(log: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(log).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let planned = events.first().expect("an event log is never empty");
    assert_eq!(planned["event"], "planned");
    let name = |event: &Value| {
        let label = &planned["actions"][usize::try_from(event["action"].as_u64().unwrap()).unwrap()];
        format!("{} {}", label["stage"].as_str().unwrap(), label["subject"].as_str().unwrap())
    };
    events.iter().filter(|event| event["event"] == "started").map(name).collect()
}

/// The demo model of this repository.
pub(crate) fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/anepipe-demo-q8_0.gguf")
}

/// A file or folder that is shared between checkouts; says so when it is absent.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ANEPIPE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(root).join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} absent", path.display());
    None
}
