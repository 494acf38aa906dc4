//! The kinds of work a build is made of.

use serde::Serialize;

/// A stage. Its name stands in keys, events and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// GGUF metadata → `contract.json`.
    Contract,
    /// What ships as it is in the model file: embeddings → safetensors, the tokenizer → JSON.
    Extract,
    /// A shard shape → a program without weights.
    Graph,
    /// Weights of the model file → weights as the program stores them.
    Quantize,
    /// A program and its weights → `.mlpackage`.
    Convert,
    /// `.mlpackage` → `.mlmodelc`.
    Compile,
    /// A compiled shard → proof that it computes each token on its own.
    Parity,
    /// A compiled shard → where its operations run, measured or predicted.
    Residency,
    /// A whole model → proof that it says what an independent forward of the model file says.
    Golden,
    /// A whole model → proof that drafts change no token.
    Exact,
    /// Everything that passed → the bundle.
    Ship,
}

impl Stage {
    /// The name in keys, events and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Contract => "contract",
            Self::Extract => "extract",
            Self::Graph => "graph",
            Self::Quantize => "quantize",
            Self::Convert => "convert",
            Self::Compile => "compile",
            Self::Parity => "parity",
            Self::Residency => "residency",
            Self::Golden => "golden",
            Self::Exact => "exact",
            Self::Ship => "ship",
        }
    }

    /// The version of the stage's code. Raise it whenever the same inputs may give other outputs: it is part of every
    /// key, so the stage runs again everywhere.
    pub fn code(self) -> u32 {
        match self {
            Self::Contract
            | Self::Extract
            | Self::Graph
            | Self::Convert
            | Self::Compile
            | Self::Parity
            | Self::Residency
            | Self::Golden
            | Self::Exact
            | Self::Ship => 1,
            // Since it takes weights from the model file itself.
            Self::Quantize => 2,
        }
    }

    /// Whether the stage judges: its `report` output says `"pass": false` when what it looked at must not ship.
    pub fn is_gate(self) -> bool {
        matches!(self, Self::Parity | Self::Residency | Self::Golden | Self::Exact)
    }
}

impl Stage {
    /// Whether nothing may ever excuse a gate that did not pass before this stage.
    pub fn needs_gates(self) -> bool {
        matches!(self, Self::Ship)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_serialized_by_its_name() {
        for stage in [Stage::Contract, Stage::Extract, Stage::Golden, Stage::Parity, Stage::Ship] {
            assert_eq!(serde_json::to_value(stage).expect("a name"), stage.name());
        }
    }
}
