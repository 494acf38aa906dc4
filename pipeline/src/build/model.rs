//! The model that is built: its file, its contract, and the digests of its tensors.

use std::collections::BTreeMap;
use std::path::Path;

use anepipe_artifacts::{Digest, Store};
use anepipe_gguf::{Gguf, Tensor};

use crate::contract::Contract;
use crate::error::StageError;

/// An opened model.
pub struct Model {
    gguf: Gguf,
    contract: Contract,
}

impl Model {
    /// Opens the GGUF file at `path` and reads its contract for a context of `context` positions.
    pub fn open(path: &Path, context: u32) -> Result<Self, StageError> {
        let gguf = Gguf::open(path)?;
        let contract = Contract::read(&gguf, context)?;
        Ok(Self { gguf, contract })
    }

    /// The file.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The numbers.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// A digest of all metadata but the tokenizer's.
    pub fn metadata_digest(&self) -> Digest {
        let keys = self.gguf.metadata().iter().filter(|(key, _)| !key.starts_with("tokenizer."));
        let mut lines: Vec<String> = keys.map(|(key, value)| format!("{key} {value:?}\n")).collect();
        lines.sort_unstable();
        Digest::of_bytes(lines.concat().as_bytes())
    }

    /// Digests of the tensors called `names`: of their types, their extents and their bytes. Hashed once, then remembered
    /// by the store while the file stays as it is.
    pub fn digests(&self, store: &Store, names: &[String]) -> Result<BTreeMap<String, Digest>, StageError> {
        let mut by_file: BTreeMap<&Path, Vec<Tensor<'_>>> = BTreeMap::new();
        for name in names {
            let tensor = self.gguf.tensor(name);
            let tensor =
                tensor.ok_or_else(|| StageError::Internal(format!("the contract let {name} be absent")))?;
            by_file.entry(tensor.file()).or_default().push(tensor);
        }
        let mut digests = BTreeMap::new();
        for (file, tensors) in by_file {
            let ranges: Vec<_> = tensors
                .iter()
                .map(|tensor| tensor.offset()..tensor.offset() + tensor.bytes().len() as u64)
                .collect();
            let contents = store.digests_of_ranges(file, &ranges)?;
            digests.extend(
                tensors
                    .iter()
                    .zip(contents)
                    .map(|(tensor, content)| (tensor.name().to_owned(), typed(tensor, content))),
            );
        }
        Ok(digests)
    }
}

/// The same bytes are another tensor under another type or shape.
fn typed(tensor: &Tensor<'_>, content: Digest) -> Digest {
    Digest::of_bytes(format!("{} {:?} {content}", tensor.dtype(), tensor.dims()).as_bytes())
}
