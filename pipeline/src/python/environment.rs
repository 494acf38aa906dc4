//! Which Python packages to use, decided without starting Python.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::PythonError;
use super::packages::{self, Fingerprint};
use super::version::PythonVersion;

/// Who named an environment. In order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvironmentSource {
    /// The variable `ANEPIPE_PYTHON`.
    Variable,
    /// `[python] venv` in the configuration.
    Configuration,
    /// The variable `VIRTUAL_ENV`: an activated environment.
    Activated,
    /// A `.venv` folder beside the configuration or in the current directory.
    Nearby,
    /// The environment of the Python this program was built with.
    Build,
}

impl fmt::Display for EnvironmentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Variable => "named by ANEPIPE_PYTHON",
            Self::Configuration => "named by `[python] venv`",
            Self::Activated => "named by VIRTUAL_ENV",
            Self::Nearby => "found as .venv",
            Self::Build => "recorded when this program was built",
        })
    }
}

/// Where to look for an environment.
#[derive(Debug, Clone, Default)]
pub struct Lookup {
    /// `ANEPIPE_PYTHON`: an environment's folder, or a Python in its `bin`.
    pub variable: Option<PathBuf>,
    /// `[python] venv`, resolved against the configuration's folder.
    pub configured: Option<PathBuf>,
    /// `VIRTUAL_ENV`.
    pub activated: Option<PathBuf>,
    /// Folders whose `.venv` counts, in order.
    pub nearby: Vec<PathBuf>,
    /// The environment of the build.
    pub built: Option<PathBuf>,
}

impl Lookup {
    /// The lookup of this process: its variables, the configuration's `venv` and folder, the current directory.
    pub fn of_process(configured: Option<&Path>, configuration_folder: Option<&Path>) -> Self {
        let variable =
            |name| env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
        let mut nearby: Vec<PathBuf> = configuration_folder.map(Path::to_owned).into_iter().collect();
        nearby.extend(env::current_dir().ok());
        nearby.dedup();
        Self {
            variable: variable("ANEPIPE_PYTHON"),
            configured: configured
                .map(|path| configuration_folder.map_or(path.to_owned(), |folder| folder.join(path))),
            activated: variable("VIRTUAL_ENV"),
            nearby,
            built: Some(PathBuf::from(env!("ANEPIPE_PYTHON_PREFIX"))),
        }
    }

    /// The environment to use and who named it. A named one need not exist; `.venv` folders and the build's do.
    fn choose(&self) -> Result<(PathBuf, EnvironmentSource), PythonError> {
        let named = [
            (&self.variable, EnvironmentSource::Variable),
            (&self.configured, EnvironmentSource::Configuration),
            (&self.activated, EnvironmentSource::Activated),
        ];
        for (path, source) in named {
            if let Some(path) = path {
                return Ok((folder_of(path), source));
            }
        }
        let mut looked = Vec::new();
        let nearby = self.nearby.iter().map(|folder| (folder.join(".venv"), EnvironmentSource::Nearby));
        let built = self.built.iter().map(|folder| (folder.clone(), EnvironmentSource::Build));
        for (path, source) in nearby.chain(built) {
            if path.is_dir() {
                return Ok((path, source));
            }
            looked.push(path);
        }
        Err(PythonError::NoEnvironment { looked })
    }
}

/// A Python in `bin` stands for its environment. Not resolved further: in an environment it is a link out of it.
fn folder_of(path: &Path) -> PathBuf {
    if path.is_file()
        && let Some(bin) = path.parent()
        && let Some(root) = bin.parent()
    {
        return if root.as_os_str().is_empty() { PathBuf::from(".") } else { root.to_owned() };
    }
    path.to_owned()
}

/// An environment that is fit for this program: of its Python, with the packages it needs.
#[derive(Debug, Clone)]
pub struct PythonEnvironment {
    root: PathBuf,
    source: EnvironmentSource,
    site_packages: PathBuf,
    fingerprint: Fingerprint,
}

impl PythonEnvironment {
    /// Finds the environment and checks it. Reads one small file and one folder; starts nothing.
    pub fn resolve(lookup: &Lookup) -> Result<Self, PythonError> {
        let (root, source) = lookup.choose()?;
        let bad =
            |reason: String| PythonError::BadEnvironment { path: root.clone(), source_of: source, reason };
        if !root.is_dir() {
            return Err(bad("there is no such folder".to_owned()));
        }
        let root = std::path::absolute(&root).map_err(|error| bad(error.to_string()))?;
        let (built, running) = (PythonVersion::built(), PythonVersion::running());
        if !built.is_compatible_with(running) {
            return Err(PythonError::Library { built, running });
        }
        if let Some(found) = recorded_version(&root).map_err(bad)?
            && !found.is_compatible_with(built)
        {
            return Err(PythonError::OtherPython { path: root.clone(), source_of: source, found, built });
        }
        let site_packages = root.join(format!("lib/python{}.{}/site-packages", built.major, built.minor));
        if !site_packages.is_dir() {
            return Err(bad(format!("{} does not exist", site_packages.display())));
        }
        let fingerprint = packages::fingerprint(&site_packages).map_err(|error| bad(error.to_string()))?;
        let fingerprint = fingerprint.map_err(|unfit| PythonError::Package {
            root: root.clone(),
            package: unfit.package,
            found: unfit.found,
            wanted: unfit.wanted,
        })?;
        Ok(Self { root, source, site_packages, fingerprint })
    }

    /// The environment's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Who named it.
    pub fn source(&self) -> EnvironmentSource {
        self.source
    }

    /// Where its packages are.
    pub fn site_packages(&self) -> &Path {
        &self.site_packages
    }

    /// Everything a Python stage's output can depend on besides its inputs.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Where the embedded Python's standard library is.
    pub fn home(&self) -> &Path {
        Path::new(env!("ANEPIPE_PYTHON_HOME"))
    }
}

/// The Python of a virtual environment, from its pyvenv.cfg. None for an installation, which has no such file.
fn recorded_version(root: &Path) -> Result<Option<PythonVersion>, String> {
    let path = root.join("pyvenv.cfg");
    if !path.is_file() {
        return Ok(None);
    }
    let text = fs_err::read_to_string(&path).map_err(|error| error.to_string())?;
    // `venv` writes `version`, other tools `version_info`.
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| matches!(key.trim(), "version" | "version_info"))
        .and_then(|(_, value)| PythonVersion::parse(value))
        .map(Some)
        .ok_or_else(|| format!("{} does not tell the version of Python", path.display()))
}
