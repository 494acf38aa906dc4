//! From typed errors to documented exit codes.

use std::error::Error;
use std::process::ExitCode;

use anepipe_artifacts::StoreError;
use anepipe_pipeline::contract::ExitClass;
use anepipe_pipeline::error::StageError;
use anepipe_pipeline::gates::exact::ExactError;
use anepipe_pipeline::gates::golden::{GoldenError, ReferenceError};
use anepipe_pipeline::gates::parity::ParityError;
use anepipe_pipeline::gates::range::RangeError;
use anepipe_pipeline::stage::Stage;
use anepipe_pipeline::stages::WholeError;
use anepipe_pipeline::stages::graph::GraphError;
use anepipe_pipeline::stages::quantize::QuantizeError;
use anepipe_pipeline::stages::residency::ResidencyError;
use anepipe_runtime::decode::DecodeError;
use anepipe_runtime::draft::TableError;
use anepipe_runtime::error::RuntimeError;
use anepipe_runtime::session::SessionError;
use anepipe_runtime::tokenizer::TokenizerError;

use crate::report::ReportError;

/// The exit codes that `anepipe --help` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    Usage = 2,
    BadInput = 10,
    Unsupported = 11,
    Parity = 20,
    Residency = 21,
    Golden = 22,
    Exact = 23,
    Range = 24,
    Python = 30,
    StageCrashed = 31,
    StoreCorrupt = 40,
    StoreBusy = 41,
    NotWritable = 43,
    Bug = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure of the command itself.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failed {
    message: String,
    exit: Exit,
}

impl Failed {
    /// Already explained elsewhere; only shown.
    pub(crate) fn new(message: String) -> Self {
        Self { message, exit: Exit::Bug }
    }

    /// Options that cannot be met.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Usage }
    }

    /// A file that is not what the command takes.
    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::BadInput }
    }
}

/// The exit code of whatever went wrong.
pub(crate) fn exit_of_any(error: &anyhow::Error) -> Exit {
    if error.chain().any(is_full) {
        return Exit::NotWritable;
    }
    let found = error.chain().find_map(|cause| {
        let stage = cause.downcast_ref::<StageError>().map(exit_of);
        stage
            .or_else(|| cause.downcast_ref::<Failed>().map(|failed| failed.exit))
            .or_else(|| cause.downcast_ref::<StoreError>().map(exit_of_store))
            .or_else(|| cause.downcast_ref::<anepipe_pipeline::config::ConfigError>().map(|_| Exit::Usage))
            .or_else(|| cause.downcast_ref::<anepipe_runtime::bundle::BundleError>().map(|_| Exit::BadInput))
            .or_else(|| cause.downcast_ref::<SessionError>().map(exit_of_session))
            .or_else(|| cause.downcast_ref::<DecodeError>().map(exit_of_decode))
            .or_else(|| cause.downcast_ref::<TokenizerError>().map(exit_of_tokenizer))
            .or_else(|| cause.downcast_ref::<TableError>().map(|_| Exit::BadInput))
            .or_else(|| cause.downcast_ref::<RuntimeError>().and_then(exit_of_runtime))
            .or_else(|| cause.downcast_ref::<ReportError>().map(exit_of_report))
            .or_else(|| cause.downcast_ref::<anepipe_mil::compile::CompileError>().map(|_| Exit::BadInput))
            .or_else(|| cause.downcast_ref::<std::io::Error>().map(|_| Exit::BadInput))
    });
    found.unwrap_or(Exit::Bug)
}

/// Whether the cause of a failure is that something could not be written for want of room.
fn is_full(cause: &(dyn Error + 'static)) -> bool {
    use std::io::ErrorKind as Kind;
    let io = match cause.downcast_ref::<StageError>() {
        // Transparent, so that it is not in the chain by itself.
        Some(StageError::Io(io)) => Some(io),
        _ => cause.downcast_ref::<std::io::Error>(),
    };
    io.is_some_and(|io| {
        matches!(
            io.kind(),
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge | Kind::ReadOnlyFilesystem
        )
    })
}

/// The exit code of a stage's failure.
pub(crate) fn exit_of(error: &StageError) -> Exit {
    if anyhow::Chain::new(error).any(is_full) {
        return Exit::NotWritable;
    }
    match error {
        StageError::Contract(error) => exit_of_class(error.exit_class()),
        StageError::Extract(error) | StageError::Quantize(QuantizeError::Weights(error)) => {
            error.exit_class().map_or(Exit::BadInput, exit_of_class)
        }
        StageError::Topology(_)
        | StageError::Usage(_)
        | StageError::Exact(ExactError::NoPrompts)
        | StageError::Range(RangeError::NoPrompts) => Exit::Usage,
        StageError::Exact(ExactError::Decode { source, .. }) => exit_of_decode(source),
        StageError::Residency(error) => exit_of_residency(error),
        StageError::Golden(GoldenError::Reference(ReferenceError::Architecture { .. })) => Exit::Unsupported,
        StageError::Gguf(_)
        | StageError::Tensors(_)
        | StageError::Quantize(QuantizeError::Tensors(_))
        | StageError::Io(_)
        | StageError::Golden(_)
        | StageError::Prompts(_) => Exit::BadInput,
        StageError::Exact(ExactError::Session(error))
        | StageError::Range(RangeError::Prompt { source: error, .. })
        | StageError::Whole(WholeError::Model(error)) => exit_of_session(error),
        StageError::Whole(WholeError::Tokenizer(error)) => exit_of_tokenizer(error),
        StageError::Gate { stage, .. } => exit_of_gate(*stage),
        StageError::Python(error) | StageError::Graph(GraphError::Python(error)) => match error.exit_code() {
            31 => Exit::StageCrashed,
            _ => Exit::Python,
        },
        StageError::Compiler(_) => Exit::Python,
        StageError::Runtime(error) => exit_of_runtime(error).unwrap_or(Exit::Bug),
        StageError::Parity(ParityError::Device { source, .. }) => {
            exit_of_runtime(source).unwrap_or(Exit::Bug)
        }
        StageError::Store(error) => exit_of_store(error),
        _ => Exit::Bug,
    }
}

fn exit_of_gate(stage: Stage) -> Exit {
    match stage {
        Stage::Parity => Exit::Parity,
        Stage::Residency => Exit::Residency,
        Stage::Golden => Exit::Golden,
        Stage::Exact => Exit::Exact,
        _ => Exit::Bug,
    }
}

pub(crate) fn exit_of_residency(error: &ResidencyError) -> Exit {
    match error {
        ResidencyError::NotMeasured { .. } => Exit::Residency,
        ResidencyError::NoComputePlan { .. } | ResidencyError::Python(_) => Exit::Python,
        ResidencyError::Model { .. } | ResidencyError::Io(_) | ResidencyError::Plan(_) => Exit::BadInput,
        ResidencyError::Rules(_) => Exit::Bug,
    }
}

/// The exit code of what a device is at fault for: one that is not to be had here, or a Core ML that refuses. Other errors of the
/// runtime are for the caller to judge.
fn exit_of_runtime(error: &RuntimeError) -> Option<Exit> {
    match error {
        RuntimeError::Device { .. } => Some(Exit::Usage),
        RuntimeError::CoreMl { .. } => Some(Exit::Python),
        _ => None,
    }
}

fn exit_of_session(error: &SessionError) -> Exit {
    match error {
        SessionError::Load(error) | SessionError::Shard { source: error, .. } => {
            exit_of_runtime(error).unwrap_or(Exit::BadInput)
        }
        SessionError::EmptyPrompt | SessionError::Token { .. } | SessionError::ContextFull { .. } => {
            Exit::Usage
        }
        _ => Exit::BadInput,
    }
}

fn exit_of_decode(error: &DecodeError) -> Exit {
    match error {
        DecodeError::Session(error) => exit_of_session(error),
        DecodeError::NoChoice { .. } => Exit::BadInput,
    }
}

fn exit_of_tokenizer(error: &TokenizerError) -> Exit {
    match error {
        TokenizerError::Unsupported { .. } => Exit::Unsupported,
        _ => Exit::BadInput,
    }
}

fn exit_of_report(error: &ReportError) -> Exit {
    match error {
        ReportError::Write { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Exit::NotWritable
        }
        // Otherwise there is no such place, as where a file stands for a folder.
        ReportError::Folder { .. } | ReportError::Write { .. } => Exit::Usage,
        ReportError::Bundle(_)
        | ReportError::Io { .. }
        | ReportError::Unknown { .. }
        | ReportError::Contradiction { .. } => Exit::BadInput,
    }
}

fn exit_of_class(class: ExitClass) -> Exit {
    match class {
        ExitClass::BadInput => Exit::BadInput,
        ExitClass::Unsupported => Exit::Unsupported,
    }
}

fn exit_of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Busy { .. } => Exit::StoreBusy,
        StoreError::Corrupt { .. } => Exit::StoreCorrupt,
        StoreError::Full { .. } | StoreError::Denied { .. } => Exit::NotWritable,
        StoreError::NotACache { .. } => Exit::Usage,
        _ => Exit::BadInput,
    }
}
