//! `model.mlmodel`: the protobuf of a package, read into a [`Program`].
//!
//! Decoding is `prost`'s, with its limit of 100 nested messages; the messages' types are those of the crate
//! `coreml-proto`. Documentation strings are dropped: the compiler drops them too.

mod error;
mod program;
mod tensor;
mod wire;

use coreml_proto::proto as pb;
use prost::Message as _;

pub use error::{ProtoError, ProtoErrorKind};

use crate::program::Program;

/// A decoded model: the program and what surrounds it.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    /// Specification version: 6 for iOS 15, 7 for iOS 16, 8 for iOS 17, 9 for iOS 18.
    pub specification_version: i32,
    /// The program.
    pub program: Program,
    /// Features, metadata and functions as the model describes itself to its users.
    pub(crate) description: pb::ModelDescription,
    /// The same as it stands in the file.
    pub(crate) description_bytes: Vec<u8>,
    /// Whether the model can be trained on the device.
    pub(crate) is_updatable: bool,
}

impl ModelSpec {
    /// Decodes the bytes of a `model.mlmodel` that holds an ML Program.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProtoError> {
        let description_bytes = wire::description(bytes)?;
        let model = pb::Model::decode(bytes)
            .map_err(|error| ProtoErrorKind::Damaged(error.to_string()).at("the model"))?;
        let program = match &model.r#type {
            Some(pb::model::Type::MlProgram(program)) => program::convert(program)?,
            other => return Err(ProtoErrorKind::NotAnMlProgram(kind_of(other.as_ref())).at("the model")),
        };
        Ok(Self {
            specification_version: model.specification_version,
            program,
            description: model.description.unwrap_or_default(),
            description_bytes,
            is_updatable: model.is_updatable,
        })
    }
}

/// What a model that is no ML Program is, in words.
fn kind_of(model: Option<&pb::model::Type>) -> &'static str {
    use pb::model::Type;
    match model {
        None => "no known kind of model",
        Some(Type::NeuralNetwork(_) | Type::NeuralNetworkClassifier(_) | Type::NeuralNetworkRegressor(_)) => {
            "a neural network"
        }
        Some(Type::Pipeline(_) | Type::PipelineClassifier(_) | Type::PipelineRegressor(_)) => "a pipeline",
        Some(_) => "a classical model",
    }
}
