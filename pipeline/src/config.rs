//! The project file, `anepipe.toml`: defaults for the command line, and what a model's gates look at.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::gates::golden::{GoldenOverrides, GoldenThresholds};
use crate::gates::parity::ParityThresholds;
use crate::gates::residency;
use crate::stages::quantize::Quantization;
use crate::stages::residency::Require;

/// A project file. Every part is optional; unknown keys are errors, because a misspelt threshold must not be silence.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[model]`
    pub model: ModelConfig,
    /// `[build]`
    pub build: BuildConfig,
    /// `[target]`: the machine that residency is predicted for.
    pub target: residency::Target,
    /// `[gates]`
    pub gates: GatesConfig,
    /// `[python]`
    pub python: PythonConfig,
}

/// `[model]`: what is built.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// GGUF file, relative to the project file.
    pub path: Option<PathBuf>,
}

/// `[build]`: how it is built. Each key is the default of the option of the same name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BuildConfig {
    /// Half-open range of layers, as in `0..32`.
    pub layers: Option<String>,
    /// Layers per shard, as in `20+4+6+2`, or `auto`.
    pub topology: Option<String>,
    /// Tokens a pass verifies.
    pub block: Option<u32>,
    /// Other numbers of tokens that a pass can take.
    pub widths: Option<Vec<u32>>,
    /// Positions the KV cache holds.
    pub context: Option<u32>,
    /// How weights are stored.
    pub quantize: Option<Quantization>,
    /// Where the bundle goes, relative to the project file.
    pub out: Option<PathBuf>,
}

/// `[gates]`: what the gates look at, and what they demand.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatesConfig {
    /// Tokens whose embeddings the parity gate feeds, for `[model]`'s model.
    pub token_ids: Option<Vec<u32>>,
    /// `[gates.parity]`: thresholds.
    pub parity: ParityThresholds,
    /// `[gates.residency]`
    pub residency: ResidencyConfig,
    /// `[gates.golden]`
    pub golden: GoldenConfig,
    /// `[gates.exact]`
    pub exact: ExactConfig,
}

/// `[gates.residency]`: what stops a ship.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResidencyConfig {
    /// `report`, `any` or `measured`.
    pub require: Option<Require>,
}

/// `[gates.golden]`: what is read, and limits for each way of storing weights.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct GoldenConfig {
    /// Text file, relative to the project file.
    pub text: Option<PathBuf>,
    /// Tokens of it at most.
    pub tokens: Option<usize>,
    /// Limits against the same rounded weights.
    pub stored: GoldenOverrides,
    /// Limits against the file's weights, for fp16 weights.
    pub f16: GoldenOverrides,
    /// Limits against the file's weights, for int8 weights with a scale per output channel.
    pub int8: GoldenOverrides,
    /// Limits against the file's weights, for int8 weights with one scale.
    pub int8_per_tensor: GoldenOverrides,
}

impl GoldenConfig {
    /// The limits.
    pub fn thresholds(&self) -> GoldenThresholds {
        let &Self { stored, f16, int8, int8_per_tensor, .. } = self;
        GoldenThresholds { stored, f16, int8, int8_per_tensor }
    }
}

/// `[gates.exact]`: what is decoded.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExactConfig {
    /// Prompt file, relative to the project file.
    pub prompts: Option<PathBuf>,
    /// Prompts that a build decodes at most.
    pub limit: Option<usize>,
    /// Tokens that a build generates behind each.
    pub max_new: Option<usize>,
}

/// `[python]`: which Python environment holds coremltools.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PythonConfig {
    /// Virtual environment, relative to the project file.
    pub venv: Option<PathBuf>,
}

/// A project file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("reading the project file: {0}")]
    Read(#[from] std::io::Error),
    /// It is not TOML, or a key is unknown or of the wrong type.
    #[error("reading the project file {}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: Box<toml::de::Error>,
    },
}

impl Config {
    /// Reads `path`. Relative paths inside become relative to its folder, but for `python.venv`, which
    /// [`Lookup`](crate::python::Lookup) resolves. A file that is not there is an empty one.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = match fs_err::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let mut config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let gates = &mut config.gates;
        let paths =
            [&mut config.model.path, &mut config.build.out, &mut gates.golden.text, &mut gates.exact.prompts];
        for inner in paths.into_iter().flatten() {
            *inner = folder.join(&*inner);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("anepipe.toml");
        std::fs::write(&path, text).expect("a written file");
        let config = Config::read(&path)?;
        assert!(config.model.path.as_ref().is_none_or(|model| model.starts_with(folder.path())));
        Ok(config)
    }

    #[test]
    fn an_absent_file_is_an_empty_one() {
        let config = Config::read(Path::new("/nonexistent/anepipe.toml")).expect("defaults");
        assert_eq!(config.model.path, None);
    }

    #[test]
    fn every_key_is_read() {
        let config = read(
            "[model]\npath = 'm.gguf'\n[build]\nlayers = '0..2'\ntopology = '1+1'\nblock = 4\ncontext = 256\n\
             quantize = 'int8-per-tensor'\nout = 'out'\n[gates]\ntoken_ids = [1, 2]\n[gates.golden]\ntokens = 64\n\
             int8 = { kl_mean = 0.25 }\n[gates.exact]\nprompts = 'p.jsonl'\nlimit = 3\nmax_new = 7\n[python]\nvenv = '.venv'\n\
             [target]\nchip = 'm2'\nos = 15\n[gates.residency]\nrequire = 'any'\n",
        )
        .expect("a valid file");
        assert!(config.model.path.expect("a path").ends_with("m.gguf"));
        assert_eq!(config.build.quantize, Some(Quantization::Int8PerTensor));
        assert_eq!(config.gates.token_ids, Some(vec![1, 2]));
        assert_eq!(config.gates.golden.tokens, Some(64));
        assert_eq!(config.gates.golden.thresholds().int8.kl_mean, Some(0.25));
        assert_eq!(config.target.to_string(), "m2, macOS 15");
        assert_eq!(config.gates.residency.require, Some(Require::Any));
        let ExactConfig { prompts, limit, max_new } = config.gates.exact;
        assert!(prompts.expect("a path").ends_with("p.jsonl"));
        assert_eq!((limit, max_new), (Some(3), Some(7)));
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_names_it_and_its_line() {
        let error = read("[build]\nblok = 4\n").expect_err("an unknown key").to_string();
        assert!(error.contains("blok") && error.contains("line 2"), "{error}");
    }
}
