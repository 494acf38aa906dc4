//! Versions of `CPython`.

use std::fmt;

use serde::{Serialize, Serializer};

use super::interpreter;

/// A `CPython` version. Two Pythons are compatible if major and minor agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PythonVersion {
    /// 3.
    pub major: u16,
    /// 11 of 3.11.7.
    pub minor: u16,
    /// 7 of 3.11.7; none where only 3.11 is known.
    pub patch: Option<u16>,
}

impl PythonVersion {
    /// The Python this program was built with.
    pub fn built() -> Self {
        Self::parse(env!("ANEPIPE_PYTHON_VERSION")).unwrap_or(Self { major: 3, minor: 0, patch: None })
    }

    /// The Python library that is loaded into this process. Does not start Python.
    pub fn running() -> Self {
        Self::parse(interpreter::library_version()).unwrap_or(Self { major: 0, minor: 0, patch: None })
    }

    /// Reads a version from the start of a text: `3.11.7 (main, …)`, `3.11.7.final.0`, `3.13.0rc1`, `3.11`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(4, '.').map(|part| {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            part.get(..digits)?.parse::<u16>().ok()
        });
        let (major, minor) = (parts.next()??, parts.next()??);
        Some(Self { major, minor, patch: parts.next().flatten() })
    }

    /// Whether packages and libraries of one work with the other.
    pub fn is_compatible_with(self, other: Self) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}

impl Serialize for PythonVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_every_form_python_writes_them_in() {
        for (text, shown) in [
            ("3.11.7", Some("3.11.7")),
            ("3.11.7 (main, Jan  1 2024, 00:00:00) [GCC 12.2.0]", Some("3.11.7")),
            (" 3.12.1.final.0\n", Some("3.12.1")),
            ("3.13.0rc1", Some("3.13.0")),
            ("3.10", Some("3.10")),
            ("3", None),
            ("", None),
            ("three.11", None),
            ("3.70000.1", None),
        ] {
            assert_eq!(PythonVersion::parse(text).map(|v| v.to_string()).as_deref(), shown, "{text:?}");
        }
    }

    #[test]
    fn the_loaded_library_is_the_one_of_the_build_to_every_thread_that_asks() {
        let built = PythonVersion::built();
        let together = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    together.wait();
                    assert_eq!(PythonVersion::running(), built);
                });
            }
        });
        assert!(built.minor >= 10, "{built}");
    }
}
