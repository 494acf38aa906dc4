//! What is installed in an environment, read from folder names.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::sources;
use super::version::PythonVersion;

/// The only coremltools the graph stage is made for: it subclasses exporters that other versions change.
pub const COREMLTOOLS: &str = "9.0";

/// Everything a Python stage's output can depend on besides its inputs. Part of action keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// The Python library that is loaded.
    pub python: PythonVersion,
    /// coremltools' version.
    pub coremltools: String,
    /// numpy's version.
    pub numpy: String,
    /// protobuf's version.
    pub protobuf: String,
    /// blake3 of the embedded Python sources, in hex.
    pub sources: String,
}

/// A package that is not there as it should be.
pub(super) struct Unfit {
    pub(super) package: &'static str,
    pub(super) found: Vec<String>,
    pub(super) wanted: Option<&'static str>,
}

/// Reads the versions in `site_packages`.
pub(super) fn fingerprint(site_packages: &Path) -> io::Result<Result<Fingerprint, Unfit>> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(site_packages)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    let find = |package, wanted| one_version(&names, package, wanted);
    Ok((|| {
        Ok(Fingerprint {
            python: PythonVersion::running(),
            coremltools: find("coremltools", Some(COREMLTOOLS))?,
            numpy: find("numpy", None)?,
            protobuf: find("protobuf", None)?,
            sources: sources::digest(),
        })
    })())
}

/// The version of the package's only `<package>-<version>.dist-info` folder.
fn one_version(
    names: &[String],
    package: &'static str,
    wanted: Option<&'static str>,
) -> Result<String, Unfit> {
    let version = |name: &String| {
        name.strip_suffix(".dist-info")?.strip_prefix(package)?.strip_prefix('-').map(str::to_owned)
    };
    let mut found: Vec<String> = names.iter().filter_map(version).collect();
    found.sort();
    match found.as_slice() {
        [only] if wanted.is_none_or(|wanted| wanted == only) => Ok(only.clone()),
        _ => Err(Unfit { package, found, wanted }),
    }
}
