//! What Apple's compiler is, and where it runs.

use serde::Serialize;

/// What compiled artifacts may depend on besides their package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// Build of the operating system (`sw_vers -buildVersion`), such as `24G419`.
    pub os_build: String,
    /// The chip (`sysctl -n machdep.cpu.brand_string`), such as `Apple M4 Max`.
    pub chip: String,
    /// The compiler's version (`xcrun coremlcompiler version`), such as `3405.2.1`.
    pub coremlcompiler: String,
}

impl Fingerprint {
    /// Every part with its name, as keys and manifests have them.
    pub fn entries(&self) -> [(&'static str, &str); 3] {
        [
            ("chip", self.chip.as_str()),
            ("coremlcompiler", self.coremlcompiler.as_str()),
            ("os_build", self.os_build.as_str()),
        ]
    }
}

/// The most characters of an answer that is one.
const MOST: usize = 100;

/// What `sw_vers -buildVersion` says, if it is a build: a number, a letter, and what follows.
pub(super) fn os_build(answer: &str) -> Option<String> {
    let line = line(answer)?;
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let well = rest.len() < line.len()
        && rest.starts_with(|c: char| c.is_ascii_uppercase())
        && rest.chars().all(|c| c.is_ascii_alphanumeric());
    well.then(|| line.to_owned())
}

/// What `sysctl -n machdep.cpu.brand_string` says, if it names anything.
pub(super) fn chip(answer: &str) -> Option<String> {
    line(answer).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The version in what `xcrun coremlcompiler version` says: the last word, numbers between dots.
pub(super) fn compiler_version(answer: &str) -> Option<String> {
    let version = line(answer)?.split_whitespace().next_back()?;
    let number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    version.split('.').all(number).then(|| version.to_owned())
}

/// The one line of an answer.
fn line(answer: &str) -> Option<&str> {
    let mut lines = answer.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.next()?;
    let plain = line.chars().count() <= MOST && !line.contains(char::is_control);
    (plain && lines.next().is_none()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row: an answer, and what is made of it.
    #[test]
    fn answers_are_read_or_refused() {
        let long = "x".repeat(101);
        for (answer, expected) in [
            ("24G419\n", Some("24G419")),
            ("26A5346a", Some("26A5346a")),
            ("macOS 15.7", None),
            ("2419", None),
            ("G419", None),
            ("24G419\n24G420\n", None),
            ("", None),
        ] {
            assert_eq!(os_build(answer).as_deref(), expected, "{answer:?}");
        }
        for (answer, expected) in [
            ("Apple M4 Max\n", Some("Apple M4 Max")),
            ("  Apple  M1 \n\n", Some("Apple M1")),
            ("\n", None),
            ("Apple\u{1b}[1m M1", None),
            (long.as_str(), None),
        ] {
            assert_eq!(chip(answer).as_deref(), expected, "{answer:?}");
        }
        for (answer, expected) in [
            ("3405.2.1\n", Some("3405.2.1")),
            ("coremlc version 3405.2.1", Some("3405.2.1")),
            ("3405", Some("3405")),
            ("3405..1", None),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(compiler_version(answer).as_deref(), expected, "{answer:?}");
        }
    }
}
