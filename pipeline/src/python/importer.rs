//! The embedded package inside a running interpreter: installed once, then called.

use std::path::Path;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};

use super::protocol::Failure;
use super::sources::{IMPORTER, SOURCES};

/// The function that runs a stage.
pub(super) struct Dispatcher {
    call: Py<PyAny>,
}

impl Dispatcher {
    /// Makes the embedded modules and the packages in `site_packages` importable.
    pub(super) fn install(site_packages: &Path) -> Result<Self, Failure> {
        Python::attach(|py| {
            let install = || -> PyResult<Py<PyAny>> {
                let text = std::ffi::CString::new(IMPORTER)?;
                let importer = PyModule::from_code(py, &text, c"<anepipe>/embedded.py", c"anepipe_embedded")?;
                let sources = PyDict::new(py);
                for source in SOURCES {
                    sources.set_item(source.module, source.text)?;
                }
                let packages: Vec<&str> =
                    SOURCES.iter().filter(|source| source.is_package).map(|source| source.module).collect();
                let site_packages = site_packages.as_os_str();
                importer.getattr("install")?.call1((sources, packages, site_packages))?;
                Ok(py.import("anepipe_stages.dispatch")?.getattr("call")?.unbind())
            };
            install().map(|call| Self { call }).map_err(|error| failure(py, &error))
        })
    }

    /// Runs the stage `method` on `params`, both JSON; returns its `{"ok": …}` or `{"error": …}`.
    pub(super) fn call(&self, method: &str, params: &str) -> Result<String, Failure> {
        Python::attach(|py| {
            let run =
                || -> PyResult<String> { self.call.bind(py).call1((method, params))?.extract::<String>() };
            run().map_err(|error| failure(py, &error))
        })
    }
}

/// An exception that the Python side did not report itself.
fn failure(py: Python<'_>, error: &PyErr) -> Failure {
    let kind = error.get_type(py).name().map_or_else(|_| "Exception".to_owned(), |name| name.to_string());
    let traceback = error.traceback(py).and_then(|traceback| traceback.format().ok()).unwrap_or_default();
    Failure { kind, message: error.value(py).to_string(), traceback, errno: None }
}
