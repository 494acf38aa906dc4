//! The machine a prediction is about.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A chip with a Neural Engine that rules may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chip {
    /// M1 and its Pro, Max and Ultra forms; so for all M chips.
    M1,
    /// M2.
    M2,
    /// M3.
    M3,
    /// M4. Nearly every published placement was measured on one.
    M4,
    /// M5.
    M5,
    /// A14.
    A14,
    /// A15.
    A15,
    /// A16.
    A16,
    /// A17 Pro.
    A17,
    /// A18.
    A18,
}

impl Chip {
    /// Every chip, with its name on the command line and in the project file.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::M1, "m1"),
        (Self::M2, "m2"),
        (Self::M3, "m3"),
        (Self::M4, "m4"),
        (Self::M5, "m5"),
        (Self::A14, "a14"),
        (Self::A15, "a15"),
        (Self::A16, "a16"),
        (Self::A17, "a17"),
        (Self::A18, "a18"),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Chip {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(|row| row.1).join(", ");
        Self::ALL
            .iter()
            .find(|row| row.1.eq_ignore_ascii_case(text))
            .map(|row| row.0)
            .ok_or_else(|| UnknownTarget { what: "chip", given: text.to_owned(), known: known() })
    }
}

/// A generation of the operating system, by the number of its macOS. Written as a number in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum Os {
    /// macOS 15, iOS 18: the first with states.
    V15,
    /// macOS 26, iOS 26.
    V26,
    /// macOS 27, iOS 27.
    V27,
}

impl Os {
    /// Every generation, with its number.
    pub const ALL: [(Self, u32); 3] = [(Self::V15, 15), (Self::V26, 26), (Self::V27, 27)];

    /// The number.
    pub fn number(self) -> u32 {
        Self::ALL.iter().find(|row| row.0 == self).map_or(0, |row| row.1)
    }
}

impl From<Os> for u32 {
    fn from(os: Os) -> Self {
        os.number()
    }
}

impl TryFrom<u32> for Os {
    type Error = UnknownTarget;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        number.to_string().parse()
    }
}

impl fmt::Display for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

impl FromStr for Os {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(|row| row.1.to_string()).join(", ");
        Self::ALL.iter().find(|row| row.1.to_string() == text).map(|row| row.0).ok_or_else(|| UnknownTarget {
            what: "macOS version",
            given: text.to_owned(),
            known: known(),
        })
    }
}

/// A chip and an operating system: `[target]` in `anepipe.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// The chip.
    pub chip: Chip,
    /// The operating system.
    pub os: Os,
}

impl Default for Target {
    /// The pair that most published placements were measured on: M4 (Max), before macOS 27.
    fn default() -> Self {
        Self { chip: Chip::M4, os: Os::V26 }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, macOS {}", self.chip, self.os)
    }
}

/// A chip or an operating system that no rule knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("predicting residency: \"{given}\" is no known {what}; known are {known}")]
pub struct UnknownTarget {
    what: &'static str,
    given: String,
    known: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_reads_as_it_is_written() {
        for (chip, name) in Chip::ALL {
            assert_eq!((name.parse(), chip.to_string().as_str()), (Ok(chip), name));
            assert_eq!(name.to_uppercase().parse(), Ok(chip));
            assert_eq!(serde_json::to_value(chip).expect("a name"), name);
        }
        for (os, number) in Os::ALL {
            assert_eq!(number.to_string().parse(), Ok(os));
            assert_eq!(os.to_string(), number.to_string());
        }
        let target: Target = toml::from_str("chip = 'm3'\nos = 27\n").expect("a target");
        assert_eq!(target, Target { chip: Chip::M3, os: Os::V27 });
        assert_eq!(toml::from_str::<Target>("").expect("a default").to_string(), "m4, macOS 26");
    }

    #[test]
    fn what_is_unknown_is_refused_with_what_is_known() {
        let error = "m9".parse::<Chip>().expect_err("no such chip").to_string();
        assert_eq!(
            error,
            "predicting residency: \"m9\" is no known chip; known are m1, m2, m3, m4, m5, a14, a15, a16, a17, a18"
        );
        let error = "14".parse::<Os>().expect_err("no such version").to_string();
        assert!(error.contains("\"14\" is no known macOS version; known are 15, 26, 27"), "{error}");
        let error = toml::from_str::<Target>("os = 14").expect_err("no such version").to_string();
        assert!(error.contains("known are 15, 26, 27"), "{error}");
        assert!(toml::from_str::<Target>("device = 'm4'").is_err());
    }
}
