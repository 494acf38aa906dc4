//! The worker's side: a process that embeds Python and answers requests until its host goes away.

use std::fs::File;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::frame;
use super::importer::Dispatcher;
use super::interpreter;
use super::protocol::{Failure, Outcome, Request, Response, START, Start};
use super::version::PythonVersion;

/// How long a worker in the middle of a call lives on without its host.
const GRACE: Duration = Duration::from_secs(1);

/// Serves requests on standard input, answers on standard output, until the input ends. Everything else that is written
/// to standard output in this process, by whatever library, goes to standard error.
pub fn worker_main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The host shows this as the worker's last words.
            let _ = writeln!(io::stderr(), "anepipe python-worker: {error}");
            ExitCode::from(31)
        }
    }
}

fn serve() -> io::Result<()> {
    let (requests, mut responses) = take_pipes()?;
    let (sender, receiver) = channel();
    thread::Builder::new().name("requests".to_owned()).spawn(move || read_requests(requests, sender))?;
    let Some(dispatcher) = serve_start(&receiver, &mut responses)? else {
        return Ok(());
    };
    for request in receiver {
        let outcome = run(&dispatcher, &request);
        respond(&mut responses, request.id, outcome)?;
    }
    Ok(())
}

/// Keeps the pipes for the protocol alone: the well-known descriptors become `/dev/null` and standard error.
fn take_pipes() -> io::Result<(File, File)> {
    let keep = |fd| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let requests = File::from(keep(rustix::stdio::stdin())?);
    let responses = File::from(keep(rustix::stdio::stdout())?);
    rustix::stdio::dup2_stdin(fs_err::File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok((requests, responses))
}

/// Passes requests on. When the host is gone an idle worker ends by itself; one inside a call would go on for nobody, so
/// it is ended.
fn read_requests(mut pipe: File, requests: Sender<Request>) {
    while let Ok(Some(payload)) = frame::read(&mut pipe) {
        let Ok(request) = serde_json::from_slice(&payload) else { break };
        if requests.send(request).is_err() {
            break;
        }
    }
    drop(requests);
    thread::sleep(GRACE);
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

/// Waits for the first request and starts Python. None if there is no request, or if it could not be served.
fn serve_start(requests: &Receiver<Request>, responses: &mut File) -> io::Result<Option<Dispatcher>> {
    let Ok(request) = requests.recv() else {
        return Ok(None);
    };
    match start(request.params, &request.method) {
        Ok(dispatcher) => {
            let running = PythonVersion::running().to_string();
            respond(responses, request.id, Outcome::Ok(json!({ "python": running })))?;
            Ok(Some(dispatcher))
        }
        Err(failure) => {
            respond(responses, request.id, Outcome::Error(failure))?;
            Ok(None)
        }
    }
}

fn start(params: Value, method: &str) -> Result<Dispatcher, Failure> {
    let refuse = |message: String| Failure { kind: "StartError".to_owned(), message, ..Failure::default() };
    if method != START {
        return Err(refuse(format!("the first request must be `{START}`, not `{method}`")));
    }
    let start: Start = serde_json::from_value(params).map_err(|error| refuse(error.to_string()))?;
    interpreter::start(&start.home)
        .map_err(|reason| refuse(format!("{reason} (home {})", start.home.display())))?;
    Dispatcher::install(&start.site_packages)
}

fn run(dispatcher: &Dispatcher, request: &Request) -> Outcome {
    let answer = dispatcher.call(&request.method, &request.params.to_string());
    answer
        .and_then(|text| {
            serde_json::from_str(&text).map_err(|error| Failure {
                kind: "ProtocolError".to_owned(),
                message: format!("the stage's answer is not one: {error}"),
                ..Failure::default()
            })
        })
        .unwrap_or_else(Outcome::Error)
}

fn respond(pipe: &mut File, id: u64, outcome: Outcome) -> io::Result<()> {
    let mut payload = serde_json::to_vec(&Response { id, outcome })?;
    if let Err(error) = frame::length_of(&payload) {
        let message = error.to_string();
        let failure = Failure { kind: "ProtocolError".to_owned(), message, ..Failure::default() };
        payload = serde_json::to_vec(&Response { id, outcome: Outcome::Error(failure) })?;
    }
    frame::write(pipe, &payload)
}
