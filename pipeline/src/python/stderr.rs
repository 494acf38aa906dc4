//! The end of what a worker wrote to its standard error.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Bytes that are kept.
const KEPT: usize = 16 << 10;

/// How long to wait for the last words of a process that has ended.
const PATIENCE: Duration = Duration::from_millis(500);

/// A bounded tail of a pipe, filled by one thread and read by another.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    closed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    closed: bool,
}

impl Tail {
    /// Reads `pipe` to its end.
    pub(super) fn fill(&self, mut pipe: impl Read) {
        let mut buffer = [0; 4096];
        while let Ok(count) = pipe.read(&mut buffer) {
            if count == 0 {
                break;
            }
            self.push(buffer.get(..count).unwrap_or_default());
        }
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.closed.notify_all();
    }

    fn push(&self, bytes: &[u8]) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes.extend(bytes);
        let excess = state.bytes.len().saturating_sub(KEPT);
        state.bytes.drain(..excess);
    }

    /// Forgets what was written so far.
    pub(super) fn clear(&self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).bytes.clear();
    }

    /// What is there now.
    pub(super) fn text(&self) -> String {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        readable(&state.bytes.iter().copied().collect::<Vec<u8>>())
    }

    /// What is there once the process has ended; a child of it that holds the pipe open is not waited for.
    pub(super) fn last_words(&self) -> String {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.closed.wait_timeout_while(state, PATIENCE, |state| !state.closed);
        drop(waited);
        self.text()
    }
}

/// The lines that say something. coremltools complains once per class of Apple's library that it cannot load, which off
/// Apple is all of them and means nothing.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let noise = |line: &&str| !(line.contains("Failed to load _ML") && line.contains("Proxy"));
    text.lines().filter(noise).collect::<Vec<&str>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept_and_harmless_lines_are_left_out() {
        let tail = Tail::default();
        let noise = "Failed to load _MLModelProxy: No module named 'coremltools.libcoremlpython'\n";
        let text = format!("{}\n{noise}first\n{noise}last\n", "x".repeat(3 * KEPT));
        tail.fill(text.as_bytes());
        let words = tail.last_words();
        assert!(words.ends_with("x\nfirst\nlast"), "{words}");
        assert!(words.len() < KEPT);
        tail.clear();
        assert_eq!(tail.text(), "");
    }
}
