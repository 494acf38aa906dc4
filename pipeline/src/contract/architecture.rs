//! The families of models that can be built.

use serde::{Deserialize, Serialize};

/// A family of models, named as in `general.architecture`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Phi-3 and Phi-4-mini: fused query, key and value; fused gate and up.
    Phi3,
    /// Llama: separate query, key, value, gate and up.
    Llama,
}

/// Which two of a head's rotated dims turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotaryPairs {
    /// `i` and `i + n/2`.
    Neox,
    /// `2i` and `2i + 1`.
    Norm,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Phi3, Self::Llama];

    /// The name in `general.architecture`, and the prefix of the architecture's keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Phi3 => "phi3",
            Self::Llama => "llama",
        }
    }

    /// The architecture of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// The order of rotary pairs in the file's query and key rows. Extracted weights always have [`RotaryPairs::Neox`].
    pub fn rotary_pairs(self) -> RotaryPairs {
        match self {
            Self::Phi3 => RotaryPairs::Neox,
            Self::Llama => RotaryPairs::Norm,
        }
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
