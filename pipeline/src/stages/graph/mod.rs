//! Graph: a shard's program without its weights, through coremltools in a Python worker.
//!
//! Gives two files: `model.mlmodel`, the same bytes for every shard of the same [`GraphSpec`], and `blobs.json`, the
//! [`BlobTable`] that says which tensor belongs at which byte of the weight file. Memory and disk do not grow with the
//! weights.

mod blobs;
mod spec;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

pub use blobs::{BLOBS_SCHEMA, Blob, BlobTable, BlobTableError, Part, TensorKind};
pub use spec::{Fault, GraphSpec, HeadSpec, LayersSpec, SpecError, Storage, Style};

use crate::python::{PythonError, Worker, path_text};

/// The code version of the stage in action keys. The Python sources stand in the tool fingerprint by themselves.
pub const CODE_VERSION: u32 = 1;

/// The program.
pub const MODEL_FILE: &str = "model.mlmodel";

/// The table of blobs.
pub const BLOBS_FILE: &str = "blobs.json";

/// The stage's name in the worker.
const METHOD: &str = "graph";

/// What a graph came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphReport {
    /// The program's functions, in the order of the spec's widths.
    pub functions: Vec<FunctionReport>,
    /// Blobs in the weight file.
    pub blobs: usize,
    /// Bytes of weights, without headers and padding.
    pub weight_bytes: u64,
    /// Bytes of `model.mlmodel`.
    pub model_bytes: u64,
    /// What built it.
    pub versions: Versions,
}

/// One function of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionReport {
    /// `main`, or `t<width>` where there are several.
    pub name: String,
    /// Positions a pass.
    pub width: u32,
    /// Operations that compute: neither `const` nor `constexpr_…`.
    pub ops: usize,
    /// Those that are convolutions.
    pub convs: usize,
}

/// The versions the worker runs, as the imported modules state them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// `CPython`.
    pub python: String,
    /// coremltools.
    pub coremltools: String,
    /// numpy.
    pub numpy: String,
    /// protobuf.
    pub protobuf: String,
    /// Operating system and machine.
    pub platform: String,
}

/// An error of the stage.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The spec contradicts itself.
    #[error("building a graph: {0}")]
    Spec(#[from] SpecError),
    /// The worker or its environment failed.
    #[error("building a graph: {0}")]
    Python(#[from] PythonError),
    /// A file could not be written or read.
    #[error("building a graph: {0}")]
    Io(#[from] std::io::Error),
    /// The worker's report is not one.
    #[error("building a graph: the worker's report is not one: {0}")]
    Report(#[source] serde_json::Error),
    /// The table the worker wrote does not hold together.
    #[error("building a graph: {}: {error}", path.display())]
    Blobs {
        /// The table.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: BlobTableError,
    },
    /// The table, the report and the spec do not agree.
    #[error("building a graph: {0}")]
    Contradiction(String),
}

/// Builds the graph of `spec` into the folder `out_dir`, which is made if it is absent, and checks what came out.
pub fn run(worker: &mut Worker, spec: &GraphSpec, out_dir: &Path) -> Result<GraphReport, GraphError> {
    spec.check()?;
    fs_err::create_dir_all(out_dir)?;
    let absolute = std::path::absolute(out_dir)?;
    let request = json!({ "spec": spec, "out_dir": path_text(METHOD, &absolute)? });
    let report: GraphReport =
        serde_json::from_value(worker.call(METHOD, &request)?).map_err(GraphError::Report)?;
    let path = out_dir.join(BLOBS_FILE);
    let table = BlobTable::read(&path)?;
    agree(spec, &report, &table).map_err(GraphError::Contradiction)?;
    Ok(report)
}

/// Compares what was asked for, what was reported and what was written.
fn agree(spec: &GraphSpec, report: &GraphReport, table: &BlobTable) -> Result<(), String> {
    let widths: Vec<u32> = report.functions.iter().map(|function| function.width).collect();
    if widths != spec.widths() {
        return Err(format!("asked for widths {:?}, the worker built {widths:?}", spec.widths()));
    }
    let bytes: u64 = table.blobs().iter().map(|blob| blob.size).sum();
    if (report.blobs, report.weight_bytes) != (table.blobs().len(), bytes) {
        return Err(format!(
            "the worker reports {} blobs of {} bytes, the table has {} of {bytes}",
            report.blobs,
            report.weight_bytes,
            table.blobs().len()
        ));
    }
    let found: Vec<_> = table.blobs().iter().map(Blob::identity).collect();
    let wanted = spec.expected_blobs();
    for identity in &wanted {
        if !found.contains(identity) {
            return Err(format!("the table lacks {identity:?}"));
        }
    }
    if found.len() != wanted.len() {
        return Err(format!("the table has {} blobs, this shard needs {}", found.len(), wanted.len()));
    }
    Ok(())
}
