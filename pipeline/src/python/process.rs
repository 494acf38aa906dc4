//! A worker's process and the threads that keep its pipes moving.

use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::Ending;
use super::frame;
use super::stderr::Tail;

/// How long a process that closed its answers may take to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running child with a thread on each of its three pipes. Ended and reaped when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Arc<Mutex<Child>>,
    requests: Sender<Vec<u8>>,
    answers: Receiver<io::Result<Vec<u8>>>,
    stderr: Tail,
    id: u32,
    cancelled: Arc<AtomicBool>,
}

/// Why no answer came.
pub(super) enum NoAnswer {
    /// The time was up.
    Late,
    /// The process closed its answers.
    Closed,
    /// What came is not a frame.
    Garbage(io::Error),
}

impl Process {
    /// Starts `command` with pipes on its standard streams.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let id = child.id();
        let child = Arc::new(Mutex::new(child));
        let (Some(mut stdin), Some(mut stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("a pipe of the new process is missing"));
        };
        let (requests, outbox) = channel::<Vec<u8>>();
        let (inbox, answers) = channel();
        let tail = Tail::default();
        let process = Self {
            child,
            requests,
            answers,
            stderr: tail.clone(),
            id,
            cancelled: Arc::new(AtomicBool::new(false)),
        };
        // A write blocks if the child does not read; on its own thread it cannot outlast the caller's deadline.
        spawn_thread("worker requests", move || {
            for payload in outbox {
                if frame::write(&mut stdin, &payload).is_err() {
                    break;
                }
            }
        })?;
        spawn_thread("worker answers", move || {
            while let Some(frame) = frame::read(&mut stdout).transpose() {
                let over = frame.is_err();
                if inbox.send(frame).is_err() || over {
                    break;
                }
            }
        })?;
        spawn_thread("worker stderr", move || tail.fill(stderr))?;
        Ok(process)
    }

    /// Sends one frame. A process that has ended is noticed when its answer is waited for.
    pub(super) fn send(&self, payload: Vec<u8>) {
        let _ = self.requests.send(payload);
    }

    /// Waits for the next frame; without a limit, for as long as the process lives.
    pub(super) fn receive(&self, within: Option<Duration>) -> Result<Vec<u8>, NoAnswer> {
        let answer = match within {
            Some(within) => self.answers.recv_timeout(within),
            None => self.answers.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match answer {
            Ok(Ok(frame)) => Ok(frame),
            // The process ended in the middle of an answer.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(NoAnswer::Closed),
            Ok(Err(error)) => Err(NoAnswer::Garbage(error)),
            Err(RecvTimeoutError::Timeout) => Err(NoAnswer::Late),
            Err(RecvTimeoutError::Disconnected) => Err(NoAnswer::Closed),
        }
    }

    /// Waits a little for a process that closed its answers, ends it if it has not ended, and says how it ended.
    pub(super) fn finish(&self) -> Ending {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.lock().try_wait() {
                return ending(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.kill();
        Ending::Hung
    }

    /// Ends the process and reaps it.
    pub(super) fn kill(&self) {
        let mut child = self.lock();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Something that ends the process from another thread.
    pub(super) fn killer(&self) -> Killer {
        Killer { child: Arc::clone(&self.child), cancelled: Arc::clone(&self.cancelled) }
    }

    /// Whether a [`Killer`] was used.
    pub(super) fn was_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// The end of its standard error.
    pub(super) fn stderr(&self) -> &Tail {
        &self.stderr
    }

    /// The operating system's id of it.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends a process from any thread.
#[derive(Debug, Clone)]
pub(super) struct Killer {
    child: Arc<Mutex<Child>>,
    cancelled: Arc<AtomicBool>,
}

impl Killer {
    /// Ends the process; does nothing if it has ended.
    pub(super) fn kill(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        // `Child::kill` does nothing for a child that was reaped, so an id that was given away is never hit.
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }
}

fn spawn_thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

fn ending(status: ExitStatus) -> Ending {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(signal), _) => Ending::Signal(signal),
        (None, code) => Ending::Exit(code.unwrap_or(-1)),
    }
}
