//! The machine that figures are of, and when.

use std::num::NonZeroUsize;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// What a figure is worth nothing without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Machine {
    /// The processor's own name for itself; `unknown` where it does not say.
    pub(crate) cpu: String,
    /// Threads that it runs at once.
    pub(crate) cores: usize,
    /// Operating system and architecture, as in `linux x86_64`.
    pub(crate) system: String,
    /// Instructions of the portable device's kernels; null on another device.
    pub(crate) isa: Option<String>,
    /// Threads of the portable device and of the plain reads.
    pub(crate) threads: usize,
    /// The day in UTC, as in `2026-01-31`.
    pub(crate) date: String,
}

impl Machine {
    /// This one, today.
    pub(crate) fn here(isa: Option<&str>, threads: NonZeroUsize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            cpu: cpu().unwrap_or_else(|| "unknown".to_owned()),
            cores: cores().get(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            isa: isa.map(str::to_owned),
            threads: threads.get(),
            date: date(now.as_secs() / 86_400),
        }
    }
}

/// Threads that this machine runs at once.
pub(crate) fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

#[cfg(target_vendor = "apple")]
fn cpu() -> Option<String> {
    let asked =
        std::process::Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
    let name = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(not(target_vendor = "apple"))]
fn cpu() -> Option<String> {
    cpu_of(&fs_err::read_to_string("/proc/cpuinfo").ok()?)
}

/// The first processor's name in Linux's list; ARM's has none.
#[cfg(any(test, not(target_vendor = "apple")))]
fn cpu_of(list: &str) -> Option<String> {
    list.lines().find_map(|line| {
        let (key, name) = line.split_once(':')?;
        (key.trim() == "model name").then(|| name.trim().to_owned())
    })
}

/// The civil date of a number of days since 1970-01-01, by the rule of the Gregorian calendar: years counted from March, so that
/// the day that comes and goes is the last of a year.
fn date(days: u64) -> String {
    let days = days + 719_468; // since 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_722, "2023-12-31"),
            (19_723, "2024-01-01"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }

    #[test]
    fn a_processor_is_called_what_it_calls_itself() {
        let list =
            "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t: fpu\n\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(cpu_of(list), Some("AMD EPYC".to_owned()));
        assert_eq!(cpu_of("processor\t: 0\nBogoMIPS\t: 50.00\n"), None);
    }
}
