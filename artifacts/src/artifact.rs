//! What an action gives: a stored file or a stored directory.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A stored file or directory. As JSON: `{"kind":"blob","digest":"…","size":12}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Artifact {
    /// A file.
    Blob {
        /// The digest of its content.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// A directory, stored as a [`Tree`](crate::Tree) whose canonical JSON is itself an object.
    Tree {
        /// The digest of the tree's canonical JSON.
        digest: Digest,
        /// The size in bytes of that JSON, not of the files it lists ([`Tree::total_size`](crate::Tree::total_size)).
        size: u64,
    },
}

impl Artifact {
    /// The digest by which other actions' keys refer to it.
    pub const fn digest(&self) -> &Digest {
        match self {
            Self::Blob { digest, .. } | Self::Tree { digest, .. } => digest,
        }
    }

    /// The size in bytes of the object of that digest.
    pub const fn size(&self) -> u64 {
        match self {
            Self::Blob { size, .. } | Self::Tree { size, .. } => *size,
        }
    }

    /// Whether it is a directory.
    pub const fn is_tree(&self) -> bool {
        matches!(self, Self::Tree { .. })
    }
}
