//! Writing an object: digested while it is written, published by one rename.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use tempfile::{NamedTempFile, TempPath};

use crate::artifact::Artifact;
use crate::digest::HashingWriter;
use crate::error::{Doing, Result};
use crate::session::Session;
use crate::store::Store;

/// Bytes gathered before they are digested and written; larger writes pass straight through.
const GATHER: usize = 256 << 10;

/// A writer of one object, from [`Store::blob_writer`]. Nothing is stored before [`finish`](Self::finish); a writer that is
/// dropped leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter<'a> {
    store: &'a Store,
    file: BufWriter<HashingWriter<File>>,
    path: TempPath,
    /// Keeps the directory of the temporary file alive.
    _session: Arc<Session>,
}

impl<'a> BlobWriter<'a> {
    pub(crate) fn new(store: &'a Store) -> Result<Self> {
        let session = store.session()?;
        let (file, path) = NamedTempFile::new_in(session.dir()).doing("writing an object")?.into_parts();
        let file = BufWriter::with_capacity(GATHER, HashingWriter::new(file));
        Ok(Self { store, file, path, _session: session })
    }

    /// Stores what was written.
    pub fn finish(self) -> Result<Artifact> {
        let writer =
            self.file.into_inner().map_err(io::IntoInnerError::into_error).doing("writing an object")?;
        let (file, digest, size) = writer.into_parts();
        self.store.objects().publish(&file, self.path, &digest, size)?;
        Ok(Artifact::Blob { digest, size })
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
