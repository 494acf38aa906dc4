//! A directory as a sorted list of paths and digests, stored as an object of its own.
//!
//! Its canonical JSON is `{"entries":[…],"schema":1}` with the entries sorted by the bytes of their paths, each either
//! `{"digest":"…","kind":"file","path":"a/b","size":12}` or, for a directory with nothing in it,
//! `{"kind":"dir","path":"c"}`. Other directories follow from their files. Owners, times and modes are not kept: a tree is content.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use serde::Deserialize;

use crate::artifact::Artifact;
use crate::canonical;
use crate::digest::Digest;

/// The version of a tree's shape.
const TREE_SCHEMA: u32 = 1;

/// What is at a path of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A file.
    File {
        /// The digest of its content.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// A directory with nothing in it.
    EmptyDir,
}

/// A directory's content: every relative path leads to a file or an empty directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

/// A tree that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A path that is not relative, normal and portable.
    #[error("`{path}` cannot be stored in a tree: {why}")]
    BadPath {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two entries that cannot be at once.
    #[error("`{path}` is in the tree twice, or is a file and a directory at once")]
    Conflict {
        /// The path of the later entry.
        path: String,
    },
    /// A stored tree that is not in canonical form.
    #[error("not a tree: {why}")]
    Malformed {
        /// What is wrong.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<'a> {
    #[serde(borrow)]
    entries: Vec<StoredEntry<'a>>,
    schema: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredEntry<'a> {
    #[serde(default)]
    digest: Option<Digest>,
    kind: Kind,
    #[serde(borrow)]
    path: std::borrow::Cow<'a, str>,
    #[serde(default)]
    size: Option<u64>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Dir,
    File,
}

impl Tree {
    /// A tree with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stored artifact at `path`, separated by `/`: a blob as a file, without touching its bytes. For a stored
    /// directory, add its tree by [`insert_tree`](Self::insert_tree).
    pub fn insert_file(
        &mut self,
        path: impl Into<String>,
        digest: Digest,
        size: u64,
    ) -> Result<(), TreeError> {
        self.insert(path.into(), Node::File { digest, size })
    }

    /// Adds an empty directory at `path`. Nothing happens if the tree has files below it already.
    pub fn insert_dir(&mut self, path: impl Into<String>) -> Result<(), TreeError> {
        let path = path.into();
        check_path(&path)?;
        if self.has_below(&path) || self.nodes.get(&path) == Some(&Node::EmptyDir) {
            return Ok(());
        }
        self.insert(path, Node::EmptyDir)
    }

    /// Adds everything in `tree` below `path`.
    pub fn insert_tree(&mut self, path: &str, tree: &Self) -> Result<(), TreeError> {
        if tree.nodes.is_empty() {
            return self.insert_dir(path);
        }
        tree.nodes.iter().try_for_each(|(below, node)| match node {
            Node::File { digest, size } => self.insert_file(format!("{path}/{below}"), *digest, *size),
            Node::EmptyDir => self.insert_dir(format!("{path}/{below}")),
        })
    }

    fn insert(&mut self, path: String, node: Node) -> Result<(), TreeError> {
        check_path(&path)?;
        let conflict = || TreeError::Conflict { path: path.clone() };
        for (cut, _) in path.match_indices('/') {
            match self.nodes.get(path.get(..cut).unwrap_or_default()) {
                Some(Node::File { .. }) => return Err(conflict()),
                // No longer empty.
                Some(Node::EmptyDir) => drop(self.nodes.remove(path.get(..cut).unwrap_or_default())),
                None => {}
            }
        }
        if self.has_below(&path) {
            return Err(conflict());
        }
        match self.nodes.entry(path) {
            Entry::Vacant(entry) => {
                entry.insert(node);
                Ok(())
            }
            Entry::Occupied(entry) => Err(TreeError::Conflict { path: entry.key().clone() }),
        }
    }

    fn has_below(&self, path: &str) -> bool {
        let from = format!("{path}/");
        self.nodes
            .range::<str, _>((Bound::Included(from.as_str()), Bound::Unbounded))
            .next()
            .is_some_and(|(first, _)| first.starts_with(&from))
    }

    /// What is at `path`.
    pub fn get(&self, path: &str) -> Option<Node> {
        self.nodes.get(path).copied()
    }

    /// The file at `path` as an artifact by itself.
    pub fn file(&self, path: &str) -> Option<Artifact> {
        match self.get(path)? {
            Node::File { digest, size } => Some(Artifact::Blob { digest, size }),
            Node::EmptyDir => None,
        }
    }

    /// Every entry, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), *node))
    }

    /// Every file's path, digest and size, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, Digest, u64)> {
        self.iter().filter_map(|(path, node)| match node {
            Node::File { digest, size } => Some((path, digest, size)),
            Node::EmptyDir => None,
        })
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The size in bytes of all files.
    pub fn total_size(&self) -> u64 {
        self.files().fold(0, |sum, (_, _, size)| sum.saturating_add(size))
    }

    /// The canonical JSON by which the tree is stored and digested.
    pub fn to_canonical(&self) -> Vec<u8> {
        let mut out = br#"{"entries":["#.to_vec();
        for (i, (path, node)) in self.nodes.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            match node {
                Node::File { digest, size } => {
                    out.extend_from_slice(
                        format!(r#"{{"digest":"{digest}","kind":"file","path":"#).as_bytes(),
                    );
                    canonical::write_string(path, &mut out);
                    out.extend_from_slice(format!(r#","size":{size}}}"#).as_bytes());
                }
                Node::EmptyDir => {
                    out.extend_from_slice(br#"{"kind":"dir","path":"#);
                    canonical::write_string(path, &mut out);
                    out.push(b'}');
                }
            }
        }
        out.extend_from_slice(format!(r#"],"schema":{TREE_SCHEMA}}}"#).as_bytes());
        out
    }

    /// Reads a tree back. Anything but the canonical form is refused, so that one tree has one digest.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, TreeError> {
        let malformed = |why: String| TreeError::Malformed { why };
        let stored: Stored<'_> = serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
        if stored.schema != TREE_SCHEMA {
            return Err(malformed(format!("schema {} is unknown", stored.schema)));
        }
        let mut tree = Self::new();
        for entry in stored.entries {
            let node = match (entry.kind, entry.digest, entry.size) {
                (Kind::File, Some(digest), Some(size)) => Node::File { digest, size },
                (Kind::Dir, None, None) => Node::EmptyDir,
                _ => return Err(malformed(format!("entry `{}` has the wrong members", entry.path))),
            };
            tree.insert(entry.path.into_owned(), node)?;
        }
        if tree.to_canonical() == bytes {
            Ok(tree)
        } else {
            Err(malformed("not in canonical form".to_owned()))
        }
    }
}

/// Relative, normal, and the same on every file system: nothing that could lead out of the directory.
fn check_path(path: &str) -> Result<(), TreeError> {
    let bad = |why| Err(TreeError::BadPath { path: path.to_owned(), why });
    if path.len() > 4096 {
        return bad("it is longer than 4096 bytes");
    }
    if path.contains(['\0', '\\']) {
        return bad("it has a NUL or a backslash");
    }
    for part in path.split('/') {
        match part {
            "" => return bad("a part of it is empty"),
            "." | ".." => return bad("it has a `.` or `..`"),
            part if part.len() > 255 => return bad("a part of it is longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}
