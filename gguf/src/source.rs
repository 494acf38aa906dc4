//! A file's bytes, mapped into memory.
#![allow(unsafe_code)] // the one call that maps a file

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use memmap2::Mmap;

use crate::GgufError;

/// The bytes of a file: mapped, or given.
#[derive(Debug)]
pub(crate) enum Source {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Source {
    /// Maps the file at `path`.
    pub(crate) fn map(path: &Path) -> Result<Self, GgufError> {
        let cannot = |source: io::Error| GgufError::Open { file: path.to_owned(), source };
        // Asked before opening, because opening a pipe waits for its writer.
        let kind = fs::metadata(path).map_err(cannot)?.file_type();
        if !kind.is_file() {
            let found = if kind.is_dir() { "a directory" } else { "a device or pipe" };
            return Err(GgufError::NotAFile { file: path.to_owned(), found });
        }
        let file = File::open(path).map_err(cannot)?;
        if file.metadata().map_err(cannot)?.len() == 0 {
            return Ok(Self::Owned(Vec::new())); // a map of no bytes is an error on some systems
        }
        // SAFETY: the map is read-only and private to this value, and no reference to it outlives it (`bytes` borrows).
        // What the type system cannot promise is that nobody shortens or rewrites the file meanwhile; a model file is
        // not written in place, and the crate's documentation asks for that.
        let map = unsafe { Mmap::map(&file) }.map_err(cannot)?;
        Ok(Self::Mapped(map))
    }

    /// Tells the system that `len` bytes from `offset` will not be read soon, so that they need not stay in memory.
    pub(crate) fn release(&self, offset: u64, len: u64) {
        #[cfg(unix)]
        if let (Self::Mapped(map), Ok(offset), Ok(len)) =
            (self, usize::try_from(offset), usize::try_from(len))
        {
            // SAFETY: this advice is dangerous for maps whose bytes can differ from the file's, since it drops them.
            // This one is read-only, so whoever reads again gets the file's bytes again.
            let advised =
                unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, len) };
            drop(advised); // advice that is not taken changes nothing
        }
        #[cfg(not(unix))]
        let _ = (offset, len);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
