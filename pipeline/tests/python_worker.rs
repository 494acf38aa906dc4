//! Python workers: what they answer, how they fail, how they end.
#![cfg(target_os = "linux")]

mod python;

use std::time::{Duration, Instant};

use anepipe_pipeline::python::{Ending, PythonError, PythonVersion, Worker, WorkerOptions};
use python::{environment, options, worker};
use serde_json::{Value, json};

#[test]
fn a_worker_reports_the_versions_of_its_environment() {
    let environment = environment();
    let versions = worker().call("environment", &json!({})).unwrap();
    let fingerprint = serde_json::to_value(environment.fingerprint()).unwrap();
    for name in ["python", "coremltools", "numpy", "protobuf"] {
        assert_eq!(versions[name], fingerprint[name], "{name}");
    }
    assert_eq!(versions["python"], PythonVersion::built().to_string());
}

#[test]
fn a_worker_survives_exceptions_and_quotes_its_own_sources() {
    let mut worker = worker();
    let error = worker.call("environment", &json!({ "colour": 1 })).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("ParameterError: environment: unknown fields: colour"), "{text}");
    assert!(text.contains("<anepipe>/anepipe_stages/fields.py"), "{text}");
    assert!(text.contains("raise ParameterError"), "the traceback quotes the line: {text}");
    assert!(!text.contains("Failed to load _ML"), "{text}");
    assert_eq!(error.exit_code(), 30);
    let error = worker.call("no-such-stage", &json!({})).unwrap_err();
    assert!(error.to_string().contains("no stage is called 'no-such-stage'"), "{error}");
    assert!(worker.is_usable());
    assert!(worker.call("environment", &json!({})).is_ok());
}

#[test]
fn a_worker_that_is_killed_in_a_call_is_a_crash_with_its_signal() {
    let mut worker = worker();
    let victim = worker.id().to_string();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(150));
        std::process::Command::new("kill").args(["-KILL", &victim]).status().unwrap()
    });
    let error = worker.call("graph", &python::slow_graph()).unwrap_err();
    assert!(killer.join().unwrap().success());
    assert!(
        matches!(&error, PythonError::Crashed { ending: Ending::Signal(9), method, .. } if method == "graph"),
        "{error:?}"
    );
    assert_eq!(error.exit_code(), 31);
    assert!(!worker.is_usable());
    let error = worker.call("environment", &json!({})).unwrap_err();
    assert!(matches!(error, PythonError::Ended { .. }), "{error:?}");
}

#[test]
fn a_call_that_takes_too_long_is_ended() {
    let options = WorkerOptions { call_timeout: Some(Duration::from_millis(100)), ..options() };
    let mut worker = Worker::spawn_with(&environment(), options).unwrap();
    let started = Instant::now();
    let error = worker.call("graph", &python::slow_graph()).unwrap_err();
    assert!(matches!(error, PythonError::TimedOut { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(!python::is_alive(worker.id()));
}

#[test]
fn a_call_can_be_cancelled_from_another_thread() {
    let mut worker = worker();
    let handle = worker.handle();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        handle.cancel();
    });
    let error = worker.call("graph", &python::slow_graph()).unwrap_err();
    canceller.join().unwrap();
    assert!(matches!(error, PythonError::Cancelled { .. }), "{error:?}");
}

#[test]
fn a_dropped_worker_is_ended() {
    let worker = worker();
    let id = worker.id();
    assert!(python::is_alive(id));
    drop(worker);
    assert!(!python::is_alive(id));
}

#[test]
fn several_workers_run_at_once() {
    let calls: Vec<_> =
        (0..3).map(|_| std::thread::spawn(|| worker().call("environment", &json!({})).unwrap())).collect();
    let answers: Vec<Value> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

/// A program that is no worker: the shell runs `script` with the worker's pipes.
fn impostor(script: &str) -> PythonError {
    let options = WorkerOptions {
        program: Some("/bin/sh".into()),
        arguments: vec!["-c".into(), script.into()],
        ..options()
    };
    Worker::spawn_with(&environment(), options).unwrap_err()
}

#[test]
fn whatever_is_not_an_answer_is_an_error_and_never_hangs() {
    type Check = fn(&PythonError) -> bool;
    let protocol: Check = |error| matches!(error, PythonError::Protocol { .. });
    let cases: [(&str, &str, Check); 6] = [
        ("text", "echo 'Hello, I am not a worker'; sleep 60", protocol),
        ("not JSON", r"printf '\003\000\000\000abc'; sleep 60", protocol),
        ("another call's answer", r#"printf '\021\000\000\000{"id":7,"ok":null}'; sleep 60"#, protocol),
        ("half a frame", r"printf '\100\000\000\000{'", |error| {
            matches!(error, PythonError::Crashed { ending: Ending::Exit(0), .. })
        }),
        (
            "an exit",
            "echo 'out of paper' >&2; exit 3",
            |error| matches!(error, PythonError::Crashed { ending: Ending::Exit(3), details, .. } if details.stderr == "out of paper"),
        ),
        ("a signal", "kill -SEGV $$", |error| {
            matches!(error, PythonError::Crashed { ending: Ending::Signal(11), .. })
        }),
    ];
    for (name, script, check) in cases {
        let error = impostor(script);
        assert!(check(&error), "{name}: {error:?}");
        assert_eq!(error.exit_code(), 31, "{name}");
    }
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let options = WorkerOptions { program: Some("/nonexistent/anepipe".into()), ..options() };
    let error = Worker::spawn_with(&environment(), options).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/anepipe"), "{error}");
    assert_eq!(error.exit_code(), 30);
}

#[test]
fn a_worker_ends_with_its_host_even_in_the_middle_of_a_call() {
    // The system closes a dead host's pipes; the same is done here by hand.
    let mut child = std::process::Command::new(python::PROGRAM)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut requests = child.stdin.take().unwrap();
    let frames = python::frames(&[
        json!({ "id": 1, "method": "start", "params": python::start_params() }),
        json!({ "id": 2, "method": "graph", "params": python::slow_graph() }),
    ]);
    std::io::Write::write_all(&mut requests, &frames).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "the worker runs while its host does");
    drop(requests);
    let started = Instant::now();
    let status = child.wait().unwrap();
    assert!(started.elapsed() < Duration::from_secs(4), "the worker outlived its host");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

#[test]
fn an_idle_worker_ends_by_itself_when_its_host_is_gone() {
    let child = std::process::Command::new(python::PROGRAM)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(child.code(), Some(0));
}

#[test]
fn nothing_from_the_hosts_environment_reaches_python() {
    // Each of these would break or change an interpreter that listened to it.
    let hostile = [
        ("PYTHONHOME", "/nonexistent"),
        ("PYTHONPATH", "/nonexistent"),
        ("PYTHONHASHSEED", "99"),
        ("PYTHONSTARTUP", "/nonexistent"),
        ("PYTHONWARNINGS", "error"),
        ("PYTHONVERBOSE", "1"),
        ("LC_ALL", "C"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let out_dir = folder.path().join("größe");
    std::fs::create_dir(&out_dir).unwrap();
    let request = json!({ "spec": python::tiny(), "out_dir": out_dir });
    let answers = python::converse(
        std::process::Command::new(python::PROGRAM).envs(hostile),
        &[
            json!({ "id": 1, "method": "start", "params": python::start_params() }),
            json!({ "id": 2, "method": "graph", "params": request }),
        ],
    );
    assert!(answers[1]["ok"]["functions"].is_array(), "{answers:?}");
    let plain = folder.path().join("plain");
    python::build(&python::tiny(), &plain);
    let model = |folder: &std::path::Path| std::fs::read(folder.join("model.mlmodel")).unwrap();
    assert!(model(&out_dir) == model(&plain), "the environment changed the graph");
}
