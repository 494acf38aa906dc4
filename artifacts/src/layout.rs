//! Where things are in a cache directory, and whether a directory is one.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::digest::Digest;
use crate::error::{Doing, Result, StoreError};
use crate::key::Key;

/// The version of the cache's layout.
pub const STORE_SCHEMA: u32 = 1;

/// The cache directory when the user names none: `$XDG_CACHE_HOME/anepipe`, else `~/.cache/anepipe`.
///
/// `env` looks a variable up, as [`std::env::var_os`] does. As the XDG specification says, a relative path in
/// `XDG_CACHE_HOME` is ignored. `None` if there is no home either.
pub fn default_dir(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("anepipe"))
}

/// The paths inside a cache directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

const VERSION_PREFIX: &str = "anepipe cache ";
/// The signature of the Cache Directory Tagging Specification, by which backup programs know what to leave out.
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This directory holds anepipe's cache of build results. It can be deleted at any time.\n";

impl Layout {
    /// Makes `root` a cache if it is missing or empty, or checks that it is one that this program understands.
    pub(crate) fn prepare(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).doing("finding the cache directory")?;
        let not_a_cache = |why: &str| StoreError::NotACache { dir: root.clone(), why: why.to_owned() };
        match fs::metadata(&root) {
            Ok(meta) if !meta.is_dir() => return Err(not_a_cache("it is not a directory")),
            _ => fs::create_dir_all(&root).doing("creating the cache directory")?,
        }
        let layout = Self { root: root.clone() };
        match fs::read(layout.version()) {
            Ok(text) => layout.check_version(&text)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => layout.initialize()?,
            Err(e) => return Err(e).doing("opening the cache"),
        }
        Ok(layout)
    }

    fn check_version(&self, text: &[u8]) -> Result<()> {
        let found = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.trim_end().strip_prefix(VERSION_PREFIX)?.parse::<u32>().ok())
            .ok_or_else(|| StoreError::corrupt(self.version(), "it does not name a cache format"))?;
        if found > STORE_SCHEMA {
            return Err(StoreError::Newer { dir: self.root.clone(), found, known: STORE_SCHEMA });
        }
        Ok(())
    }

    /// `version` is written last: a directory without it is not yet a cache, and the next process starts over.
    fn initialize(&self) -> Result<()> {
        // A cache whose `version` got lost is still a cache; anything else that is not empty is somebody's directory.
        let foreign = fs::read_dir(&self.root).doing("opening the cache")?.flatten().find(|entry| {
            let ours = [
                "cas",
                "ac",
                "tmp",
                "index",
                "index.lock",
                "pins",
                "quarantine",
                "lock",
                "CACHEDIR.TAG",
                "version",
            ];
            let name = entry.file_name();
            !ours.iter().any(|known| name == *known) && !name.to_string_lossy().starts_with(".anepipe-")
        });
        if let Some(entry) = foreign {
            return Err(StoreError::NotACache {
                dir: self.root.clone(),
                why: format!(
                    "it already holds `{}`, which is not part of a cache",
                    entry.file_name().to_string_lossy()
                ),
            });
        }
        let doing = "creating the cache";
        for dir in [self.cas(), self.ac(), self.tmp()] {
            fs::create_dir_all(dir).doing(doing)?;
        }
        for (path, text) in [
            (self.root.join("CACHEDIR.TAG"), CACHEDIR_TAG.to_owned()),
            (self.version(), format!("{VERSION_PREFIX}{STORE_SCHEMA}\n")),
        ] {
            let mut file = tempfile::Builder::new()
                .prefix(".anepipe-")
                .permissions(PermissionsExt::from_mode(0o644))
                .tempfile_in(&self.root)
                .doing(doing)?;
            std::io::Write::write_all(&mut file, text.as_bytes()).doing(doing)?;
            file.persist(path).map_err(|e| e.error).doing(doing)?;
        }
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn version(&self) -> PathBuf {
        self.root.join("version")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn cas(&self) -> PathBuf {
        self.root.join("cas")
    }

    pub(crate) fn ac(&self) -> PathBuf {
        self.root.join("ac")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    pub(crate) fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// `cas/<aa>/<digest>`
    pub(crate) fn object(&self, digest: &Digest) -> PathBuf {
        self.in_fan("cas", &digest.to_string(), "")
    }

    /// `ac/<aa>/<key>.json`
    pub(crate) fn record(&self, key: &Key) -> PathBuf {
        self.in_fan("ac", &key.to_string(), ".json")
    }

    /// Built in one allocation, because a lookup does this for every object.
    fn in_fan(&self, top: &str, hex: &str, suffix: &str) -> PathBuf {
        let mut path =
            OsString::with_capacity(self.root.as_os_str().len() + top.len() + hex.len() + suffix.len() + 5);
        path.push(self.root.as_os_str());
        for part in ["/", top, "/", hex.get(..2).unwrap_or_default(), "/", hex, suffix] {
            path.push(part);
        }
        path.into()
    }
}

/// The files in the fan directories of `cas` or `ac`, in no order. An unreadable directory is an error, because what is in it
/// must not be taken for absent.
pub(crate) fn fan(top: &Path) -> Result<Vec<PathBuf>> {
    let list = |dir: &Path| -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).doing("listing the cache"),
        };
        entries.map(|entry| entry.map(|entry| entry.path()).doing("listing the cache")).collect()
    };
    let mut files = Vec::new();
    for dir in list(top)?.into_iter().filter(|dir| dir.is_dir()) {
        files.extend(list(&dir)?);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_dir_follows_xdg() {
        let dir = |xdg: Option<&str>, home: Option<&str>| {
            default_dir(|name| match name {
                "XDG_CACHE_HOME" => xdg.map(Into::into),
                "HOME" => home.map(Into::into),
                _ => None,
            })
        };
        assert_eq!(dir(Some("/x"), Some("/h")), Some("/x/anepipe".into()));
        assert_eq!(dir(None, Some("/h")), Some("/h/.cache/anepipe".into()));
        assert_eq!(dir(Some("relative"), Some("/h")), Some("/h/.cache/anepipe".into()));
        assert_eq!(dir(Some(""), Some("")), None);
        assert_eq!(dir(None, None), None);
    }
}
