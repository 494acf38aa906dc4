//! Where a page goes.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::ReportError;

/// Read and written by whom the process's umask lets; a temporary file alone would be its owner's only.
const MODE: u32 = 0o666;

/// A path that is not a folder.
#[derive(Debug)]
pub(crate) struct Destination {
    path: PathBuf,
}

impl Destination {
    /// Refuses a folder, before anything is done for the page.
    pub(crate) fn new(path: &Path) -> Result<Self, ReportError> {
        if path.is_dir() {
            return Err(ReportError::Folder { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Writes the page, whole or not at all, in the place of whatever file is there. Missing folders are made.
    pub(crate) fn write(&self, page: &str) -> Result<(), ReportError> {
        self.replace(page).map_err(|source| ReportError::Write { path: self.path.clone(), source })
    }

    fn replace(&self, page: &str) -> std::io::Result<()> {
        // A link stays one: what it leads to is replaced.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if std::fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
            // A pipe or a device, such as /dev/stdout, takes the page itself; a file in its place would help nobody.
            return std::fs::write(&path, page);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let permissions = std::fs::Permissions::from_mode(MODE);
        let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
        file.write_all(page.as_bytes())?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_replaces_a_file_and_what_a_link_leads_to_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("deep/er/report.html"), dir.path().join("link.html"));
        Destination::new(&file).unwrap().write("first").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Destination::new(&link).unwrap().write("second").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "second");
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn others_may_read_a_page_as_they_may_read_any_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (page, plain) = (dir.path().join("report.html"), dir.path().join("plain"));
        Destination::new(&page).unwrap().write("page").unwrap();
        std::fs::write(&plain, "plain").unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&page), mode(&plain));
    }

    #[test]
    fn a_folder_is_refused_and_a_device_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let error = Destination::new(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is a folder") && error.contains("report.html"), "{error}");
        Destination::new(Path::new("/dev/null")).unwrap().write("gone").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_page_that_cannot_be_written_says_where() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Destination::new(&file.join("report.html")).unwrap().write("page").unwrap_err();
        assert!(error.to_string().contains("file/report.html"), "{error}");
    }
}
